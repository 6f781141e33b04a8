// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"weft/internal/base/configfile"
	"weft/internal/cli/term"
)

// Where the files of packages and of 'weft node join' lie.
const (
	serverConfig = "/etc/weft/server.yaml"
	agentConfig  = "/etc/weft/agent.yaml"
)

// configured reads the configuration file of a command into its flags and has the result checked. done says that nothing else
// was asked for. What is wrong is the caller's mistake: a service manager need not try again.
func configured(cmd *cobra.Command, file *configfile.File, check func() error) (done bool, err error) {
	if file.PrintsDefault() {
		return true, file.WriteDefault(cmd.OutOrStdout())
	}
	if err := errors.Join(file.Load(), check()); err != nil {
		return true, term.Usage(err)
	}
	if file.ChecksOnly() {
		fmt.Fprintln(cmd.ErrOrStderr(), "the configuration is good")
	}
	return file.ChecksOnly(), nil
}

// hostPort reports what is wrong with the HOST:PORT of a flag.
func hostPort(flag, value, example string) error {
	if _, port, err := net.SplitHostPort(value); err != nil || port == "" {
		return fmt.Errorf("--%s: %q is not HOST:PORT, for example %s", flag, value, example)
	}
	return nil
}
