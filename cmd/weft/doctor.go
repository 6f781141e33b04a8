// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/base/agentfile"
	"weft/internal/cli/term"
	"weft/internal/doctor"
)

// report is what 'weft doctor -o json' prints.
type report struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Verdict    doctor.Level     `json:"verdict"`
	Findings   []doctor.Finding `json:"findings"`
}

func doctorCommand(env *term.Env) *cobra.Command {
	var format string
	var only []string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what on this machine keeps weft from working, and say how to mend it",
		Long: `Look at this machine: kernel, devices, underlay, clock, disk, certificates, leftovers, and other networks and filters that would
stand in the way. Each finding says what is so, why it matters, how to mend it, and which Debian package helps. Nothing is changed;
what has to be tried is tried in a network namespace of its own. Run it as root, on a machine before it becomes a node, and on a node
that does not work.

The exit code is 0 where all is well, 1 with warnings, 2 where something does not work.`,
		Example: `  weft doctor
  weft doctor --quiet             # only what is not well
  weft doctor --only mtu,clock
  weft doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "text", "json"); err != nil {
				return err
			}
			for _, name := range only {
				if !slices.Contains(doctor.Names(), name) {
					return term.Usagef("there is no check %q; there are %s", name, strings.Join(doctor.Names(), ", "))
				}
			}
			findings := doctor.Look(cmd.Context(), doctor.Config{ServerTime: serverTime(env)}, only...)
			return tellFindings(env, findings, format, quiet)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&format, "output", "o", "text", "text or json")
	f.StringSliceVar(&only, "only", nil, "make only these checks: "+strings.Join(doctor.Names(), ", "))
	f.BoolVarP(&quiet, "quiet", "q", false, "leave out what is well")
	return cmd
}

func tellFindings(env *term.Env, findings []doctor.Finding, format string, quiet bool) error {
	worst := doctor.Worst(findings)
	code := map[doctor.Level]error{doctor.OK: nil, doctor.Warn: term.Code(1), doctor.Fail: term.Code(2)}[worst]
	if quiet {
		findings = slices.DeleteFunc(findings, func(f doctor.Finding) bool { return f.Level == doctor.OK })
	}
	if format == "json" {
		return errors.Join(env.WriteJSON(report{v1.APIVersion, "DoctorReport", worst, findings}), code)
	}
	warnings, failures := 0, 0
	for _, f := range findings {
		switch f.Level {
		case doctor.Warn:
			warnings++
		case doctor.Fail:
			failures++
		}
		fmt.Fprintf(env.Out, "%-4s  %-14s  %s\n", strings.ToUpper(string(f.Level)), f.Check, f.What)
		if f.Fix != "" {
			fmt.Fprintf(env.Out, "%-20s    fix:  %s\n", "", f.Fix)
		}
		if f.Package != "" {
			fmt.Fprintf(env.Out, "%-20s    package:  %s\n", "", f.Package)
		}
	}
	if _, err := fmt.Fprintf(env.Out, "%d problems, %d warnings\n", failures, warnings); err != nil {
		return err
	}
	return code
}

// serverTime asks the context's server for the time, by the Date of an answer that needs no token. A node without a context asks
// the machine of its agent's server, where the API usually is.
func serverTime(env *term.Env) func(context.Context) (time.Time, error) {
	return func(ctx context.Context) (time.Time, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		target, err := env.Target()
		if err == nil {
			c, err := target.Client()
			if err != nil {
				return time.Time{}, err
			}
			return c.Date(ctx)
		}
		c := agentsServer()
		if c == nil {
			return time.Time{}, doctor.ErrNoServer
		}
		at, err := c.Date(ctx)
		var e *v1.Error
		if errors.As(err, &e) && strings.HasPrefix(e.Message, "no answer") { // its API may be elsewhere
			err = doctor.ErrNoServer
		}
		return at, err
	}
}

// agentsServer is a client of the API beside the agent's server; nil: this machine is no node.
func agentsServer() *client.Client {
	file, err := agentfile.Read(agentConfig)
	if err != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(file.Server)
	ca, err2 := os.ReadFile(file.CA)
	if err != nil || err2 != nil {
		return nil
	}
	c, err := client.New(client.Config{Server: "https://" + net.JoinHostPort(host, "7443"), Token: "none", CA: ca}) // the time is for everybody
	if err != nil {
		return nil
	}
	return c
}
