// SPDX-License-Identifier: Apache-2.0

// Package tracecmd is weft trace.
package tracecmd

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// options are the flags.
type options struct {
	format, expect string
	minimal, ipv6  bool
}

// New returns the command; ports completes names of ports.
func New(env *term.Env, ports cobra.CompletionFunc) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "trace TENANT/PORT DESTINATION[:PORT/tcp|:PORT/udp]",
		Short: "Tell what would become of a packet, step by step",
		Long: `Walk a packet over the rows that the nodes were given, from the port that sends it to its end. Nothing is sent: it tells
what the packet path does with such a packet, and why. Without a port it is an echo request.

The destination is an address, or a port of the same VPC by its name (TENANT/PORT, or PORT in the sender's tenant): its IPv4
address, with --ipv6 or if it has no other its IPv6 address. A packet that a route leads to an appliance is followed as if that
routed it on, as long as it stays in the VPC.

Of a drop it tells the reason, under which 'weft get drops' counts real ones, what the router tells the sender by ICMP, and
what may help.`,
		Example: `  weft trace red/web-1 10.0.2.4:5432/tcp
  weft trace red/web-1 red/db-1:5432/tcp
  weft trace red/web-1 [fd00:0:0:2::4]:80/tcp
  weft trace red/web-1 10.0.2.4
  weft trace red/web-1 192.0.2.1:53/udp --expect no-location
  weft trace red/web-1 10.0.2.4 --minimal`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: ports,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.minimal && cmd.Flags().Changed("output") {
				return term.Usagef("--minimal is -o minimal: give one of them")
			}
			return run(cmd.Context(), env, args[0], args[1], o)
		},
	}
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, minimal (stable, for tests), json, yaml")
	cmd.Flags().BoolVar(&o.minimal, "minimal", false, "the end in one line; the same as -o minimal")
	cmd.Flags().StringVar(&o.expect, "expect", "", "exit with 1 unless the end contains this: a verdict, reason or port")
	cmd.Flags().BoolVarP(&o.ipv6, "ipv6", "6", false, "of a destination by name, its IPv6 address")
	return cmd
}

func run(ctx context.Context, env *term.Env, from, to string, o options) error {
	if o.minimal {
		o.format = "minimal"
	}
	if err := term.CheckFormat(o.format, "table", "minimal", "json", "yaml"); err != nil {
		return err
	}
	flow, err := parseFlow(to)
	if err != nil {
		return err
	}
	c, target, err := env.Client()
	if err != nil {
		return err
	}
	tenant, name, err := term.ParsePort(from, target.Tenant)
	if err != nil {
		return err
	}
	if !flow.to.IsValid() {
		if flow.to, err = addressOf(ctx, c, tenant, name, flow.name, o.ipv6); err != nil {
			return err
		}
	}
	t, err := c.Trace(ctx, tenant, name, flow.to, flow.protocol, flow.port)
	if err != nil {
		return err
	}
	if err := show(env, o.format, t); err != nil {
		return err
	}
	if got := end(t); o.expect != "" && !strings.Contains(got, o.expect) {
		fmt.Fprintf(env.Err, "expected %q, got %q\n", o.expect, got)
		return term.Code(term.ExitFailure)
	}
	return nil
}

// flow is a destination as it is written.
type flow struct {
	to       netip.Addr // the zero Addr: by name
	name     string     // PORT or TENANT/PORT
	port     uint16
	protocol string
}

var (
	portProtocol = regexp.MustCompile(`^(.+):([0-9]+)/(tcp|udp)$`)
	portName     = regexp.MustCompile(`^([a-z0-9-]+/)?[a-z0-9-]+$`)
)

// parseFlow reads ADDRESS, ADDRESS:PORT/PROTOCOL, [IPV6]:PORT/PROTOCOL, and the same with the name of a port in place of the
// address.
func parseFlow(s string) (flow, error) {
	f := flow{protocol: "icmp"}
	host, number := s, ""
	if m := portProtocol.FindStringSubmatch(s); m != nil {
		host, number, f.protocol = m[1], m[2], m[3]
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return flow{}, badFlow(s)
		}
		f.port = uint16(port)
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	a, err := netip.ParseAddr(inner)
	switch {
	case bracketed != closed || bracketed && (err != nil || !a.Is6()):
	case err == nil && (a.Is4() || bracketed || number == ""):
		f.to = a
		return f, nil
	case err != nil && portName.MatchString(host):
		f.name = host
		return f, nil
	}
	return flow{}, badFlow(s)
}

func badFlow(s string) error {
	return term.Usagef("%q is not a destination such as 10.0.2.4, 10.0.2.4:5432/tcp, [fd00:0:0:2::4]:5432/tcp or red/db-1:5432/tcp", s)
}

// addressOf is the address of a port by its name, as the sender would use it: nothing leads from one VPC to another, and an
// address there may be somebody else's here.
func addressOf(ctx context.Context, c *client.Client, tenant, sender, name string, ipv6 bool) (netip.Addr, error) {
	toTenant, toName, err := term.ParsePort(name, tenant)
	if err != nil {
		return netip.Addr{}, err
	}
	var ports [2]*v1.Port
	for i, id := range [2][2]string{{tenant, sender}, {toTenant, toName}} {
		o, err := c.Get(ctx, v1.KindPort, id[0], id[1])
		if err != nil {
			return netip.Addr{}, err
		}
		ports[i] = o.(*v1.Port)
	}
	from, to := ports[0], ports[1]
	if toTenant != tenant || from.Status.VPC != to.Status.VPC {
		return netip.Addr{}, term.Usagef("%s/%s is in VPC %s/%s, %s/%s in %s/%s: nothing leads from one to the other", toTenant, toName, toTenant, to.Status.VPC, tenant, sender, tenant, from.Status.VPC)
	}
	both := func(ipv4 bool) (netip.Addr, bool) {
		has := func(a netip.Addr) bool { return a.Is4() == ipv4 }
		i := slices.IndexFunc(to.Status.Addresses, has)
		if i < 0 || !slices.ContainsFunc(from.Status.Addresses, has) {
			return netip.Addr{}, false
		}
		return to.Status.Addresses[i], true
	}
	if a, ok := both(true); ok && !ipv6 {
		return a, nil
	}
	if a, ok := both(false); ok {
		return a, nil
	}
	what := "addresses of one IP version"
	if ipv6 {
		what = "IPv6 addresses"
	}
	return netip.Addr{}, term.Usagef("%s/%s and %s/%s do not both have %s: weft get ports -t %s", tenant, sender, toTenant, toName, what, tenant)
}

// end is the end of a walk in one line, the same for the same end.
func end(t *v1.Trace) string {
	switch t.Verdict {
	case "delivered":
		return fmt.Sprintf("delivered %s %s", t.Node, t.Port)
	case "dropped":
		return fmt.Sprintf("dropped %s %s", t.Node, t.Reason)
	}
	return t.Verdict + " " + t.Node
}

func show(env *term.Env, format string, t *v1.Trace) error {
	switch format {
	case "json":
		return env.WriteJSON(t)
	case "yaml":
		text, err := term.ToYAML(t)
		fmt.Fprint(env.Out, text)
		return err
	case "minimal":
		_, err := fmt.Fprintln(env.Out, end(t))
		return err
	}
	fmt.Fprintf(env.Out, "PACKET  %s\n\n", t.Packet)
	tab := env.NewTable()
	tab.Add("  #", "NODE", "STAGE", "OBJECT", "DECISION", "DETAIL")
	for i, s := range t.Steps {
		tab.Add(fmt.Sprintf("%3d", i+1), s.Node, s.Stage, s.Object, s.Decision, s.Detail)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "RESULT  %s\n", result(t))
	if t.Verdict == "dropped" {
		told := "nothing"
		if t.Told != "" {
			told = "by ICMP, " + t.Told
		}
		fmt.Fprintf(env.Out, "  told  %s\n", told)
	}
	if t.Fix != "" {
		fmt.Fprintf(env.Out, "  fix?  %s\n", t.Fix)
	}
	return nil
}

// result is the end of a walk in one line, for people.
func result(t *v1.Trace) string {
	end := strings.ToUpper(t.Verdict)
	switch {
	case t.Verdict == "delivered":
		return fmt.Sprintf("%s to %s on %s", end, t.Port, t.Node)
	case t.Verdict == "dropped" && len(t.Steps) > 0:
		return fmt.Sprintf("%s at hop %d on %s  %s  %s", end, len(t.Steps), t.Node, t.Reason, t.Steps[len(t.Steps)-1].Object)
	}
	return end + " on " + t.Node
}
