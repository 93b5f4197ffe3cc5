package main

import "github.com/spf13/cobra"

func verifyCommand(g *global) *cobra.Command { return &cobra.Command{Use: "verify"} }
