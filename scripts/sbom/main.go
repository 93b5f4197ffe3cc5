// Sbom writes the bill of materials of a Go program: which modules, in which versions, it was
// built from, as the go command recorded them in it.
//
//	go run ./scripts/sbom NAME VERSION BINARY >NAME.cdx.json
//
// The document is CycloneDX 1.6 in JSON. It is the same for the same binary and the same
// SOURCE_DATE_EPOCH (seconds since 1970), which is its time; without that variable it has none.
// Sbom ends with 0, with 64 for wrong usage, and with 1 if the file is not a Go program.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom NAME VERSION BINARY")
		os.Exit(64)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(name, version, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	made, err := sourceDate()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(describe(name, version, made, info))
}

// sourceDate returns the time that SOURCE_DATE_EPOCH names, or "" if it is not set.
func sourceDate() (string, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return "", nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", fmt.Errorf("SOURCE_DATE_EPOCH: want seconds since 1970: %w", err)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339), nil
}
