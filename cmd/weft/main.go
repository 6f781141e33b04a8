// SPDX-License-Identifier: Apache-2.0

// Command weft is the whole of weft: server, agent, lab and command line.
package main

import (
	"os"

	"weft/internal/cli"
	"weft/internal/cli/term"
)

// version is set when the program is built.
var version = "dev"

func main() {
	env := &term.Env{Out: os.Stdout, Err: os.Stderr, In: os.Stdin, Version: version}
	err := cli.New(env, serverCommand(version), agentCommand(env, version), bgpCommand(version), doctorCommand(env)).Execute()
	if err != nil {
		env.PrintError(err)
	}
	os.Exit(term.ExitCode(err))
}
