// SPDX-License-Identifier: Apache-2.0

// Command licences writes the listing of what is linked into weft, and refuses what must not be.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"weft/tools/thirdparty"
)

func main() {
	root := flag.String("root", "..", "folder of the repository")
	flag.Parse()
	if err := write(*root); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	parts, err := thirdparty.Linked(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, thirdparty.File), []byte(thirdparty.Listing(parts)), 0o644)
}
