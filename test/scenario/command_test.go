// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	v1 "weft/api/v1"
	"weft/client"
	"weft/lab"
	"weft/lab/bgp"
)

// retryFor is how long '*' repeats a command.
const retryFor = 5 * time.Second

var errUsage = errors.New("wrong arguments")

// command is one word of the scripts. It may write to the script's standard output.
type command func(s *story, ts *testscript.TestScript, args []string) error

// words are what a script can say, beside what testscript brings.
var words = map[string]command{
	"apply":    apply,        // apply FILE: give the documents to the server
	"delete":   deleteOne,    // delete KIND [TENANT/]NAME: with all that depends on it
	"attach":   attachPort,   // attach TENANT/PORT NODE
	"move":     attachPort,   // move TENANT/PORT NODE: from where it is
	"ping":     ping,         // ping TENANT/PORT TENANT/PORT|ADDRESS
	"answers":  answers,      // answers TENANT/PORT ADDRESS WHO: who has the address, as seen from the port
	"spoof":    spoofFrom,    // spoof TENANT/PORT SOURCE DESTINATION: send with a false source
	"for":      routeFor,     // for TENANT/PORT ADDRESS...: the workload routes, and has the addresses itself
	"pieces":   pieces,       // pieces TENANT/PORT ADDRESS WHO: a datagram in fragments of any order arrives, and is answered
	"drops":    drops,        // drops NODE reason=R [tenant=T] [atleast=N]
	"isolated": isolated,     // isolated TENANT...: none reaches another's
	"vni":      vni,          // vni TENANT/VPC VARIABLE
	"nowhere":  nowhere,      // nowhere VNI [NODE]: no node (or not this one) has a row or an entry of it
	"located":  located,      // located TENANT/PORT NODE: status and attachment agree
	"dump":     dump,         // dump NODE TABLE: to standard output
	"on":       on,           // on NODE|TENANT/PORT COMMAND...: output to standard output
	"weft":     weft,         // weft ARGUMENT...: the command line, on the story's lab
	"restart":  restart,      // restart NODE [PROGRAM]: its agent or server, or another of its programs
	"crash":    crash,        // crash NODE: its agent, at once, and wait until it is gone
	"scan":     scan,         // scan NODE EVERY: its agent starts again and looks for drift that often
	"boot":     boot,         // boot NODE: its agent is killed, what its kernel had is gone, and it starts again
	"bounce":   bounce,       // bounce NODE [PROGRAM]: kill it at once, and start it again
	"dead":     dead,         // dead NODE: its power fails
	"fault":    breakOne,     // fault WHAT WHERE [FROM] [percent=N] [seed=N] [both]: as 'weft lab fault' does
	"heal":     heal,         // heal WHAT WHERE | heal all
	"ways":     ways,         // ways NODE TO N: next hops of its route to another node
	"traffic":  sendNumbered, // traffic NAME FROM TO [rate=N] [flows=N] [ipv6]: numbered packets both ways, until they are counted
	"lost":     lost,         // lost NAME none | gap=DURATION [spared=N]: no packet; or no gap as long, and at least N flows without any loss
	"clock":    clock,        // clock NODE OFFSET: restart its agent or server with a clock that is ahead or behind; 0s: as it was
	"with":     with,         // with NODE PROGRAM FLAG...: start it again, with further flags
	"streams":  streams,      // streams NODE want=N: how often its stream came up
	"synced":   synced,       // synced NODE
	"writes":   writes,       // writes NODE want=N: writes to the kernel since the agent's start
}

// commands makes testscript's commands of the words, and adds lab and '*'.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){"lab": labCommand, "*": repeat}
	for name, do := range words {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			judge(ts, neg, name, do(storyOf(ts), ts, args))
		}
	}
	return all
}

func storyOf(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

func judge(ts *testscript.TestScript, neg bool, name string, err error) {
	switch {
	case errors.Is(err, errUsage), !neg && err != nil:
		ts.Fatalf("%s: %v", name, err)
	case neg && err == nil:
		ts.Fatalf("%s: succeeded, and should not", name)
	case err != nil:
		ts.Logf("[%v]", err)
	}
}

// labCommand is 'lab up [dc1|FILE] [routing=PROGRAM]' and 'lab down'. With a name the lab has the tenants of that topology; a file is one of
// the story's own.
func labCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := storyOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: lab up [dc1|FILE] [routing=PROGRAM] | lab down")
	}
	if args[0] == "down" {
		ts.Check(s.end())
		return
	}
	file, whole, routing := "", false, ""
	for _, a := range args[1:] {
		if r, ok := strings.CutPrefix(a, "routing="); ok {
			routing = r
			continue
		}
		whole = true
		if strings.HasSuffix(a, ".yaml") {
			file = ts.MkAbs(a)
		}
	}
	ts.Check(s.up(file, whole, bgp.Program(routing), ts.Stdout()))
}

// repeat is '* [!] COMMAND ...': again until it says what it should.
func repeat(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) > 0 && args[0] == "!" {
		neg, args = !neg, args[1:]
	}
	do := words[append(args, "")[0]]
	if do == nil {
		ts.Fatalf("usage: * [!] COMMAND, where COMMAND is one of this package")
	}
	for deadline := time.Now().Add(retryFor); ; time.Sleep(50 * time.Millisecond) {
		err := do(storyOf(ts), ts, args[1:])
		if (err == nil) != neg || errors.Is(err, errUsage) || time.Now().After(deadline) {
			judge(ts, neg, args[0], err)
			return
		}
	}
}

func apply(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: apply FILE", errUsage)
	}
	objects, err := v1.DecodeYAML([]byte(ts.ReadFile(args[0])))
	if err != nil {
		return err
	}
	_, err = s.api.Apply(context.Background(), objects, client.ApplyOptions{})
	return err
}

func deleteOne(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: delete KIND [TENANT/]NAME", errUsage)
	}
	kind, ok := v1.KindByWord(args[0])
	if !ok {
		return fmt.Errorf("%w: no kind %s", errUsage, args[0])
	}
	tenant, name, tenanted := strings.Cut(args[1], "/")
	if !tenanted {
		tenant, name = "", args[1]
	}
	s.moved = true
	_, err := s.api.Delete(context.Background(), kind.Kind, tenant, name, client.DeleteOptions{Cascade: true})
	return err
}

func attachPort(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: attach TENANT/PORT NODE", errUsage)
	}
	s.moved = s.moved || s.echos[args[0]] != nil // attached before: it leaves a device behind
	return s.attach(args[0], args[1])
}

func ping(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: ping FROM TO", errUsage)
	}
	to, err := s.address(args[1])
	if err != nil {
		return err
	}
	_, err = s.run(args[0], exec.Command("ping", "-n", "-c", "1", "-W", "1", to))
	return err
}

func answers(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%w: answers FROM ADDRESS WHO", errUsage)
	}
	got, err := s.asks(args[0], args[1])
	if err == nil && got[args[1]] != args[2] {
		err = fmt.Errorf("at %s, %q answers", args[1], got[args[1]])
	}
	return err
}

func spoofFrom(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%w: spoof PORT SOURCE DESTINATION", errUsage)
	}
	to, err := s.address(args[2])
	if err != nil {
		return err
	}
	_, err = s.run(args[0], s.helper("spoof", args[1], to))
	return err
}

// routeFor makes a workload an appliance: it forwards, is silent about better ways, and answers at addresses of its own.
func routeFor(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: for TENANT/PORT ADDRESS...", errUsage)
	}
	script := "set -e; cd /proc/sys/net; " +
		"for c in all eth0; do echo 0 > ipv4/conf/$c/send_redirects; echo 0 > ipv4/conf/$c/rp_filter; echo 2 > ipv6/conf/$c/accept_ra; done; " + // 2: also as a router
		"echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; ip link set lo up; "
	for _, a := range args[1:] {
		script += "ip address replace " + a + " dev lo; "
	}
	_, err := s.run(args[0], exec.Command("sh", "-c", script))
	return err
}

func pieces(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%w: pieces FROM ADDRESS WHO", errUsage)
	}
	out, err := s.run(args[0], s.helper("fragments", args[1]))
	if err == nil && strings.TrimSpace(out) != args[2] {
		err = fmt.Errorf("at %s, %q answers", args[1], out)
	}
	return err
}

func drops(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%w: drops NODE reason=R [tenant=T] [atleast=N]", errUsage)
	}
	options, err := pairs(args[1:])
	if err != nil {
		return err
	}
	want := 1
	if v, ok := options["atleast"]; ok {
		if want, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%w: atleast=%s", errUsage, v)
		}
	}
	all, _, err := s.api.Drops(context.Background(), options["tenant"])
	if err != nil {
		return err
	}
	var sum uint64
	for _, d := range all {
		if d.Node == args[0] && d.Reason == options["reason"] {
			sum += d.Packets
		}
	}
	if sum < uint64(want) {
		return fmt.Errorf("%d packets, want %d; there are %+v", sum, want, all)
	}
	return nil
}

// pairs reads "key=value" words.
func pairs(args []string) (map[string]string, error) {
	out := make(map[string]string)
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("%w: %q is not key=value", errUsage, a)
		}
		out[k] = v
	}
	return out, nil
}

func isolated(s *story, _ *testscript.TestScript, args []string) error { return s.isolated(args) }

func vni(s *story, ts *testscript.TestScript, args []string) error {
	tenant, name, ok := strings.Cut(append(args, "")[0], "/")
	if len(args) != 2 || !ok {
		return fmt.Errorf("%w: vni TENANT/VPC VARIABLE", errUsage)
	}
	o, err := s.api.Get(context.Background(), v1.KindVPC, tenant, name)
	if err == nil {
		ts.Setenv(args[1], fmt.Sprint(o.(*v1.VPC).Status.VNI))
	}
	return err
}

func nowhere(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) == 0 || len(args) > 2 || args[0] == "" {
		return fmt.Errorf("%w: nowhere VNI [NODE]", errUsage)
	}
	return s.nowhere(args[0], append(args, "")[1])
}

func located(s *story, _ *testscript.TestScript, args []string) error {
	tenant, name, ok := strings.Cut(append(args, "")[0], "/")
	if len(args) != 2 || !ok {
		return fmt.Errorf("%w: located TENANT/PORT NODE", errUsage)
	}
	o, err := s.api.Get(context.Background(), v1.KindPort, tenant, name)
	if err != nil {
		return err
	}
	if st := o.(*v1.Port).Status; st.Node != args[1] || st.State != "Attached" || st.Applied.Applied != st.Applied.Nodes {
		return fmt.Errorf("port is %s on %q, in effect on %d of %d nodes", st.State, st.Node, st.Applied.Applied, st.Applied.Nodes)
	}
	for _, n := range s.l.Topology.Nodes {
		if !n.Role.HasAgent() {
			continue
		}
		a, err := s.l.Agent(n.Name).Status(context.Background())
		if err != nil {
			return err
		}
		here := false
		for _, at := range a.Attachments {
			here = here || at.Tenant == tenant && at.Port == name
		}
		if here != (n.Name == args[1]) {
			return fmt.Errorf("attachment at %s: %v", n.Name, here)
		}
	}
	return nil
}

func dump(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: dump NODE TABLE", errUsage)
	}
	text, err := s.l.Agent(args[0]).Dump(context.Background(), args[1])
	fmt.Fprint(ts.Stdout(), text)
	return err
}

func on(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%w: on TARGET COMMAND", errUsage)
	}
	out, err := s.run(args[0], exec.Command(args[1], args[2:]...))
	fmt.Fprint(ts.Stdout(), out)
	return err
}

func weft(s *story, ts *testscript.TestScript, args []string) error {
	s.moved = s.moved || slices.Contains([]string{"detach", "delete", "check"}, append(args, "")[0])
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), ts.Stdout(), ts.Stderr()
	cmd.Env = append(os.Environ(), "WEFT_CONFIG="+s.config())
	err := cmd.Run()
	if args[0] == "lab" { // it may have changed what the lab has
		l, lerr := lab.Open(s.lab)
		if lerr != nil {
			return errors.Join(err, lerr)
		}
		s.l = l
	}
	return err
}

func restart(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("%w: restart NODE [PROGRAM]", errUsage)
	}
	return s.l.Restart(args[0], strings.Join(args[1:], ""), syscall.SIGTERM)
}

func clock(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: clock NODE OFFSET", errUsage)
	}
	const wrapper = "/usr/bin/env"
	for i, p := range s.l.Processes {
		if p.Node != args[0] || p.Program != "server" && p.Program != "agent" {
			continue
		}
		if p.Args[0] == wrapper {
			p.Args = p.Args[2:]
		}
		s.l.Processes[i].Args = append([]string{wrapper, "WEFT_CLOCK_OFFSET=" + args[1]}, p.Args...)
		return s.l.Restart(args[0], p.Program, syscall.SIGTERM)
	}
	return fmt.Errorf("no server or agent runs on %s", args[0])
}

func synced(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: synced NODE", errUsage)
	}
	a, err := s.l.Agent(args[0]).Status(context.Background())
	if err == nil && !a.Synced {
		err = fmt.Errorf("%s is not synced", args[0])
	}
	return err
}

func writes(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 || !strings.HasPrefix(args[1], "want=") {
		return fmt.Errorf("%w: writes NODE want=N", errUsage)
	}
	a, err := s.l.Agent(args[0]).Status(context.Background())
	if err == nil && "want="+strconv.FormatUint(a.Writes, 10) != args[1] {
		err = fmt.Errorf("%d writes", a.Writes)
	}
	return err
}
