// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/internal/agent"
	"weft/internal/base/agentfile"
	"weft/internal/cli"
	"weft/internal/cli/term"
)

// run runs weft with arguments; it ends by itself with those that are used here.
func run(args ...string) (out, errs string, err error) {
	var o, e bytes.Buffer
	root := weft(&term.Env{Out: &o, Err: &e, In: strings.NewReader(""), Version: "test"})
	root.SetArgs(args)
	err = root.Execute()
	return o.String(), e.String(), err
}

func weft(env *term.Env) *cobra.Command {
	return cli.New(env, serverCommand(env.Version), agentCommand(env, env.Version), bgpCommand(env.Version), doctorCommand(env))
}

func TestDefaultConfigurationsLoadAgain(t *testing.T) {
	for process, needs := range map[string][]string{
		"server": nil,
		"agent":  {"--server", "192.0.2.10:7444", "--address", "192.0.2.31"}, // what only the operator knows
	} {
		text, _, err := run(process, "--print-default-config")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), process+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{process, "--config", path, "--check-config"}, needs...)
		if _, errs, err := run(args...); err != nil || !strings.Contains(errs, "the configuration is good") {
			t.Errorf("%s: %v, %s", strings.Join(args, " "), err, errs)
		}
		plain, filled := settings(t, process), settings(t, process, "--config", path)
		if !reflect.DeepEqual(plain, filled) {
			t.Errorf("%s: with its default file, settings are %v, without %v", process, filled, plain)
		}
	}
}

// settings are the values of a process's flags after it has read its configuration.
func settings(t *testing.T, process string, args ...string) map[string]string {
	t.Helper()
	root := weft(&term.Env{Out: new(bytes.Buffer), Err: new(bytes.Buffer)})
	cmd, rest, err := root.Find(append([]string{process}, args...))
	if err != nil {
		t.Fatal(err)
	}
	root.SetArgs(append([]string{process, "--check-config"}, rest...))
	_ = root.Execute() // the agent lacks server and address
	out := make(map[string]string)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" {
			out[f.Name] = f.Value.String()
		}
	})
	return out
}

func TestAgentReadsWhatJoinWrites(t *testing.T) {
	file := agentfile.File{
		Node: "host-1", Roles: []string{"host", "edge"}, Site: "north", Server: "[2001:db8::1]:7444", CA: "/etc/weft/ca.pem", TokenFile: "/etc/weft/node.token",
		Address: netip.MustParseAddr("2001:db8::7"), UnderlayMTU: 9000, StateDir: "/var/lib/weft/agent", RunDir: "/run/weft", BPFFS: "/sys/fs/bpf/weft/host-1",
	}
	data, err := file.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run("agent", "--config", path, "--check-config"); err != nil {
		t.Error(err)
	}
	got := settings(t, "agent", "--config", path)
	for flag, want := range map[string]string{"node": file.Node, "roles": "[host,edge]", "site": "north", "server": file.Server, "address": "2001:db8::7", "underlay-mtu": "9000", "bpffs": file.BPFFS} {
		if got[flag] != want {
			t.Errorf("--%s is %q, want %q", flag, got[flag], want)
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[agentfile.File]()) {
		word, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if word == "bgpConfig" {
			continue // names a file that is not here
		}
		if !bytes.Contains(data, []byte(word+":")) {
			t.Errorf("%s is not in what join writes:\n%s", word, data)
		}
	}
}

func TestAgentStartsWithoutItsSpeaker(t *testing.T) {
	cfg := agent.Config{Node: "host-1", Roles: []string{"host"}, Server: "192.0.2.10:7444", ScanEvery: time.Minute, BGPConfig: "/nowhere/bgp.yaml"}
	if err := checkAgent(&cfg, "192.0.2.31", "process"); err != nil {
		t.Errorf("a speaker that cannot run keeps the agent from its start: %v", err)
	}
}

func TestCheckSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	text := "servre: 192.0.2.10:7444\nroles: [guest]\naddress: 192.0.2.31\nbgpConfig: /nowhere/bgp.yaml\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := run("agent", "--config", path, "--check-config")
	if term.ExitCode(err) != term.ExitUsage {
		t.Errorf("exit code %d, want %d", term.ExitCode(err), term.ExitUsage)
	}
	for _, want := range []string{path + `:1:1: there is no setting "servre"; did you mean server?`, "--server is required", `"guest" is no role`, "/nowhere/bgp.yaml"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told in: %v", want, err)
		}
	}
	bgp := filepath.Join(t.TempDir(), "bgp.yaml")
	if err := os.WriteFile(bgp, []byte("as: 4200000001\n---\nas: 4200000002\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run("bgp", "--config", bgp, "--check-config"); term.ExitCode(err) != term.ExitUsage || !strings.Contains(err.Error(), "a second document begins") {
		t.Errorf("a second document: %v", err)
	}
	for _, args := range [][]string{
		{"server", "--check-config", "--listen", "7443"},
		{"server", "--check-config", "--etcd-endpoints", "192.0.2.21:2379"},
		{"server", "--check-config", "--etcd-endpoints", "http://192.0.2.21:2379"},
		{"server", "--check-config", "--etcd-endpoints", "https://192.0.2.21:2379"},
		{"server", "--check-config", "--config", "/nowhere/server.yaml"},
	} {
		if _, _, err := run(args...); term.ExitCode(err) != term.ExitUsage {
			t.Errorf("%v: error %v", args, err)
		}
	}
}
