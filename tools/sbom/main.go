// SPDX-License-Identifier: Apache-2.0

// Command sbom writes what a binary is made of.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"weft/tools/thirdparty"
)

func main() {
	root := flag.String("root", "..", "folder of the repository")
	binary := flag.String("binary", "../bin/weft", "the program")
	out := flag.String("out", "../bin/weft.cdx.json", "the file to write")
	version := flag.String("version", "", "version of the program")
	stamp := flag.Int64("time", 0, "seconds since 1970 of the newest commit")
	flag.Parse()
	bill, err := thirdparty.Bill(*root, *binary, *version, time.Unix(*stamp, 0))
	if err == nil {
		err = os.WriteFile(*out, bill, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}
