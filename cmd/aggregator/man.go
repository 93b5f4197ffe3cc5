//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"
)

// Built with the tag man the program writes its manual pages, and does nothing else:
//
//	go run -tags man ./cmd/aggregator FOLDER
//
// They bear the date of SOURCE_DATE_EPOCH if that is set.
func init() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "want the folder for the manual pages")
		os.Exit(exitUsage)
	}
	root := newRoot(&app{stdout: os.Stdout, stderr: os.Stderr})
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "aggregator " + programVersion(), Manual: "aggregator"}
	if err := doc.GenManTree(root, header, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	os.Exit(exitDone)
}
