// SPDX-License-Identifier: Apache-2.0

package configfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// process is a command with a flag of each sort.
type process struct {
	node    string
	roles   []string
	mtu     int
	every   time.Duration
	verbose bool
	file    *File
	cmd     *cobra.Command
}

func newProcess() *process {
	p := &process{cmd: &cobra.Command{Use: "agent"}}
	f := p.cmd.Flags()
	f.StringVar(&p.node, "node", "", "name of the node")
	f.StringSliceVar(&p.roles, "roles", []string{"host"}, "what the node does")
	f.IntVar(&p.mtu, "underlay-mtu", 1500, "MTU of the underlay")
	f.DurationVar(&p.every, "scan-every", 90*time.Second, "how often to look")
	f.BoolVar(&p.verbose, "verbose", false, "say more")
	p.file = Add(p.cmd, "/etc/agent.yaml")
	root := &cobra.Command{Use: "weft"}
	root.PersistentFlags().String("tenant", "", "no setting of the agent")
	root.AddCommand(p.cmd)
	return p
}

func (p *process) values() []any { return []any{p.node, p.roles, p.mtu, p.every, p.verbose} }

func TestFlagGoesBeforeFileAndFileBeforeDefault(t *testing.T) {
	p := newProcess()
	if err := p.cmd.ParseFlags([]string{"--underlay-mtu", "9000"}); err != nil {
		t.Fatal(err)
	}
	if err := p.file.set([]byte("# of a node\nunderlayMTU: 1400\nroles:\n  - host\n  - edge\nnode: 010\n")); err != nil {
		t.Fatal(err)
	}
	want := []any{"010", []string{"host", "edge"}, 9000, 90 * time.Second, false}
	if got := p.values(); !reflect.DeepEqual(got, want) {
		t.Errorf("settings are %v, want %v", got, want)
	}
}

func TestDefaultFileHasEverySettingAndChangesNothing(t *testing.T) {
	p := newProcess()
	var text bytes.Buffer
	if err := p.file.WriteDefault(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`node: ""`, "roles: [host]", "underlayMTU: 1500", "scanEvery: 1m30s", "verbose: false"} {
		if !strings.Contains(text.String(), "\n"+line+"\n") {
			t.Errorf("there is no line %q in\n%s", line, text.String())
		}
	}
	for _, line := range strings.Split(text.String(), "\n") {
		if len(line) > lineMost {
			t.Errorf("%q has more than %d letters", line, lineMost)
		}
	}
	was := p.values()
	if err := p.file.set(text.Bytes()); err != nil || !reflect.DeepEqual(p.values(), was) {
		t.Errorf("read again: %v, error %v; want %v", p.values(), err, was)
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"node: a\nundrelayMTU: 1500\n":  `:2:1: there is no setting "undrelayMTU"; did you mean underlayMTU?`,
		"scan-every: 1m\n":              `:1:1: there is no setting "scan-every"; did you mean scanEvery?`,
		"--node: a\n":                   `did you mean node?`,
		"tenant: red\n":                 `there is no setting "tenant"; 'weft …`,
		"config: other.yaml\n":          `there is no setting "config"`,
		"node: a\nnode: b\n":            ":2:1: node is there twice, first in line 1",
		"node: a\n---\nnode: b\n":       ":2:1: a second document begins",
		"---\n---\nnode: b\n":           ":2:1: a second document begins",
		"node: a\n...\nnode: b\n":       "something follows the end",
		"node:\n":                       ":1:1: node has no value",
		"node: [a]\n":                   "node has one value, and no list",
		"node: {a: b}\n":                "node has one value, in the same line",
		"node: |\n  a\n  b\n":           "node has one value, in the same line",
		"node: a\n\n  b\n":              "node has one value, in the same line",
		"roles: host\n":                 "roles is a list: write roles: [a, b]",
		"roles: [host, [edge]]\n":       "roles is a list of single words",
		"roles: [host, null]\n":         "roles is a list of single words",
		"underlayMTU: fifteen\n":        `underlayMTU: "fifteen" is not a whole number`,
		"scanEvery: 60\n":               `scanEvery: "60" is not a time such as 90s`,
		"verbose: yes\n":                `verbose: "yes" is neither true nor false`,
		"node: &a b\n":                  "an anchor, an alias",
		"node: *a\n":                    "an anchor, an alias",
		"node: !!str a\n":               "an anchor, an alias",
		"a b: c\n":                      "is no word",
		"- node\n":                      "not a list of lines like word: value",
		"node: [[[[a]]]]\n":             "nested too deep",
		"node: 'a\n":                    "not readable as YAML",
		strings.Repeat("#\n", sizeMost): "at most 65536 are possible",
	} {
		p := newProcess()
		p.file.path = "agent.yaml"
		if err := p.file.set([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "agent.yaml:") {
			t.Errorf("%.60q: error %v, want %q", text, err, want)
		}
	}
}

func TestEveryMistakeIsTold(t *testing.T) {
	p := newProcess()
	if err := p.cmd.ParseFlags([]string{"--underlay-mtu", "9000"}); err != nil {
		t.Fatal(err)
	}
	err := p.file.set([]byte("colour: red\nunderlayMTU: x\nroles: 7\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("error %v, want three lines: also what a flag has the last word on is checked", err)
	}
}

func TestWordsOfFlags(t *testing.T) {
	for flag, want := range map[string]string{"node": "node", "token-file": "tokenFile", "underlay-mtu": "underlayMTU", "etcd-ca": "etcdCA", "etcd-ca-file": "etcdCAFile", "bpffs": "bpffs"} {
		if got := Word(flag); got != want {
			t.Errorf("--%s is %s, want %s", flag, got, want)
		}
	}
}

// FuzzFile: a text is refused with a place in it, or its settings are the same after a way out and in again.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"node: a\n", "roles: [a, 'b: c']\nnode: \"\"\n", "---\n# x\nnode: 1e3\n", "node: a\n---\nnode: b\n", "roles:\n- ~\n", "? a\n: b\n", "{node: a, roles: []}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, wrong := parse(data)
		for _, m := range wrong {
			if m.line < 1 || m.line > bytes.Count(data, []byte("\n"))+bytes.Count(data, []byte("\r"))+2 || m.err == nil {
				t.Errorf("mistake %v in line %d of %q", m.err, m.line, data)
			}
		}
		if len(wrong) > 0 {
			return
		}
		var again bytes.Buffer
		for _, s := range settings {
			var v any = append([]string{}, s.values...)
			if !s.list {
				v = s.values[0]
			}
			value, err := json.Marshal(v) // every JSON is YAML
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "%s: %s\n", s.word, value)
		}
		back, wrong := parse(again.Bytes())
		for i := range settings {
			settings[i].line, settings[i].column = 0, 0
			if settings[i].list && len(settings[i].values) == 0 {
				settings[i].values = nil
			}
		}
		for i := range back {
			back[i].line, back[i].column = 0, 0
		}
		if len(wrong) > 0 || !reflect.DeepEqual(back, settings) {
			t.Errorf("%q became %q: %v, not %v; %v", data, again.String(), back, settings, wrong)
		}
	})
}
