// SPDX-License-Identifier: Apache-2.0

// Package tracecmd is weft trace.
package tracecmd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// New returns the command.
func New(env *term.Env) *cobra.Command {
	var format, expect string
	var ipv6 bool
	cmd := &cobra.Command{
		Use:   "trace TENANT/PORT ADDRESS[:PORT/tcp|udp] | TENANT/PORT[:PORT/tcp|udp]",
		Short: "Tell what would become of a packet, step by step",
		Long: `Walk a packet over the rows that the nodes were given, from the port that sends it to its end. Nothing is sent: it tells
what the packet path does with such a packet, and why. Without a port it is an echo request. A destination may be named as the
port that has it; -6 takes its IPv6 address.`,
		Example: `  weft trace red/web-1 10.0.2.4:5432/tcp
  weft trace red/web-1 red/db-1:5432/tcp
  weft trace red/web-1 [fd00:0:0:2::4]:5432/tcp
  weft trace red/web-1 10.0.2.4
  weft trace red/web-1 192.0.2.1:53/udp --expect no-location
  weft trace red/web-1 10.0.2.4 -o minimal`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := term.CheckFormat(format, "table", "minimal", "json", "yaml"); err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			destination, err := resolveName(cmd.Context(), c, args[1], ipv6)
			if err != nil {
				return err
			}
			to, port, protocol, err := parseFlow(destination)
			if err != nil {
				return err
			}
			tenant, name, err := term.ParsePort(args[0], target.Tenant)
			if err != nil {
				return err
			}
			t, err := c.Trace(cmd.Context(), tenant, name, to, protocol, port)
			if err != nil {
				return err
			}
			if err := printTrace(env, format, t); err != nil {
				return err
			}
			if end := traceEnd(t); expect != "" && !strings.Contains(end, expect) {
				fmt.Fprintf(env.Err, "expected %q, got %q\n", expect, end)
				return term.Code(term.ExitFailure)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, minimal (stable, for tests), json, yaml")
	cmd.Flags().BoolVarP(&ipv6, "ipv6", "6", false, "of a destination by name: its IPv6 address")
	cmd.Flags().StringVar(&expect, "expect", "", "exit with 1 unless the end contains this: a verdict, reason or port")
	return cmd
}

// resolveName puts the address of a port in place of its name, where the destination is one: TENANT/PORT[:PORT/PROTOCOL].
func resolveName(ctx context.Context, c *client.Client, s string, ipv6 bool) (string, error) {
	tenant, rest, ok := strings.Cut(s, "/")
	name, flow, _ := strings.Cut(rest, ":")
	if !ok || name == "" || strings.ContainsAny(tenant, ".:[") {
		return s, nil
	}
	o, err := c.Get(ctx, v1.KindPort, tenant, name)
	if err != nil {
		return "", err
	}
	for _, a := range o.(*v1.Port).Status.Addresses {
		if a.Is6() != ipv6 {
			continue
		}
		if flow == "" {
			return a.String(), nil
		}
		text := a.String()
		if ipv6 {
			text = "[" + text + "]"
		}
		return text + ":" + flow, nil
	}
	return "", term.Usagef("%s/%s has no address of this IP version; see 'weft get port %s/%s'", tenant, name, tenant, name)
}

// parseFlow reads ADDRESS, ADDRESS:PORT/PROTOCOL or [IPV6]:PORT/PROTOCOL.
func parseFlow(s string) (to netip.Addr, port uint16, protocol string, err error) {
	bad := term.Usagef("%q is not a destination such as 10.0.2.4, 10.0.2.4:5432/tcp or [fd00:0:0:2::4]:5432/tcp", s)
	if a, err := netip.ParseAddr(s); err == nil {
		return a, 0, "icmp", nil
	}
	rest, protocol, ok := strings.Cut(s, "/")
	a, err := netip.ParseAddrPort(rest)
	if !ok || err != nil || (protocol != "tcp" && protocol != "udp") {
		return netip.Addr{}, 0, "", bad
	}
	return a.Addr(), a.Port(), protocol, nil
}

// traceEnd is the end of a walk in one line, the same for the same end.
func traceEnd(t *v1.Trace) string {
	switch t.Verdict {
	case "delivered":
		return fmt.Sprintf("delivered %s %s", t.Node, t.Port)
	case "dropped":
		return fmt.Sprintf("dropped %s %s", t.Node, t.Reason)
	}
	return t.Verdict + " " + t.Node
}

// toldLine says what the sender hears of a drop.
func toldLine(t *v1.Trace) string {
	if t.Told == "" {
		return "the sender is told nothing"
	}
	return "the router tells the sender: " + t.Told
}

func printTrace(env *term.Env, format string, t *v1.Trace) error {
	switch format {
	case "json":
		return env.WriteJSON(t)
	case "yaml":
		text, err := term.ToYAML(t)
		fmt.Fprint(env.Out, text)
		return err
	case "minimal":
		_, err := fmt.Fprintln(env.Out, traceEnd(t))
		return err
	}
	fmt.Fprintf(env.Out, "PACKET  %s\n\n", t.Packet)
	tab := env.NewTable()
	tab.Add("#", "NODE", "STAGE", "OBJECT", "DECISION", "DETAIL")
	for i, s := range t.Steps {
		tab.Add(fmt.Sprint(i+1), s.Node, s.Stage, s.Object, s.Decision, s.Detail)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	end := strings.ToUpper(t.Verdict)
	switch t.Verdict {
	case "delivered":
		end += fmt.Sprintf(" to %s on %s", t.Port, t.Node)
	case "dropped":
		end += fmt.Sprintf(" at hop %d on %s: %s", len(t.Steps), t.Node, t.Reason)
	default:
		end += " on " + t.Node
	}
	if t.Verdict == "dropped" {
		end += "\n  " + toldLine(t) + "   counted: weft get drops"
	}
	_, err := fmt.Fprintf(env.Out, "\nRESULT  %s\n", end)
	return err
}
