// SPDX-License-Identifier: Apache-2.0

// Package lab runs a data centre in network namespaces on one machine, with the same programs that production runs, and
// takes away all of it again, also after a crash at any moment.
//
// What a lab has is written down in its lab.json before it is made, so that Down needs nothing but that file.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"weft/client"
)

// Where a lab lives. Below the first there is a folder for each lab; below the others, one for each of its nodes.
const (
	stateRoot = "/var/lib/weft/lab"
	runRoot   = "/run/weft"
	pinRoot   = "/sys/fs/bpf/weft"
)

// labVariable is the variable of the environment that all processes of a lab have, with its name.
const labVariable = "WEFT_LAB"

var (
	// ErrExists says that a lab of the name is there.
	ErrExists = errors.New("lab exists")
	// ErrUnknown says that no lab has the name.
	ErrUnknown = errors.New("no such lab")
	// ErrBusy says that another process is bringing the lab up or down.
	ErrBusy = errors.New("lab is being brought up or down by another process")
	// ErrTarget says that a lab has no node, device or workload of the name.
	ErrTarget = errors.New("no such node or workload")
)

// Lab is what lab.json says: all that was, or is about to be, made.
type Lab struct {
	Name         string     `json:"name"`
	Created      time.Time  `json:"created"`
	Complete     bool       `json:"complete"` // up went through
	UnderlayOnly bool       `json:"underlayOnly,omitempty"`
	Topology     *Topology  `json:"topology"`
	API          string     `json:"api,omitempty"` // host:port of the API
	Namespaces   []string   `json:"namespaces"`
	Paths        []string   `json:"paths"` // files and folders outside the lab's own folder
	Processes    []Process  `json:"processes"`
	Workloads    []Workload `json:"workloads"`
}

// Process is a program that up started.
type Process struct {
	Node    string   `json:"node"`
	Program string   `json:"program"` // server, agent
	PID     int      `json:"pid"`
	Start   uint64   `json:"start"` // time of start in clock ticks since boot: tells a reused number apart
	Args    []string `json:"args"`  // with the program's path
	Log     string   `json:"log"`
}

// Workload is a namespace attached to a port.
type Workload struct {
	Port  string `json:"port"` // TENANT/PORT
	Node  string `json:"node"`
	NetNS string `json:"netns"`
}

// newLab writes down all that a lab will have.
func newLab(name string, t *Topology) *Lab {
	l := &Lab{Name: name, Created: time.Now().UTC(), Topology: t}
	l.Paths = append(l.Paths, l.FaultPins())
	for _, n := range t.Nodes {
		l.Namespaces = append(l.Namespaces, l.netNS(n.Name))
		l.Paths = append(l.Paths, l.runDir(n.Name))
		if n.Role.HasAgent() {
			l.Paths = append(l.Paths, l.pinDir(n.Name))
		}
	}
	for _, w := range t.Workloads {
		ns := l.netNS(strings.ReplaceAll(w.Port, "/", "-"))
		l.Namespaces = append(l.Namespaces, ns)
		l.Workloads = append(l.Workloads, Workload{Port: w.Port, Node: w.Node, NetNS: ns})
	}
	return l
}

// onlyNodes forgets what needs an agent: all paths but those of faults.
func (l *Lab) onlyNodes() {
	l.Namespaces, l.Paths, l.Workloads = l.Namespaces[:len(l.Topology.Nodes)], l.Paths[:1], nil
}

func (l *Lab) netNS(node string) string    { return l.Name + "-" + node }
func (l *Lab) runDir(node string) string   { return filepath.Join(runRoot, l.netNS(node)) }
func (l *Lab) pinDir(node string) string   { return filepath.Join(pinRoot, l.netNS(node)) }
func (l *Lab) stateDir(node string) string { return filepath.Join(l.Dir(), node) }

// logFile is where a program of a node logs: NODE.log is its server's or agent's.
func (l *Lab) logFile(node, program string) string {
	if program == "" || program == "server" || program == "agent" {
		return filepath.Join(l.Dir(), node+".log")
	}
	return filepath.Join(l.Dir(), node+"-"+program+".log")
}

// Dir is the lab's folder: lab.json, each node's state, and each process's log.
func (l *Lab) Dir() string { return filepath.Join(stateRoot, l.Name) }

// Agent returns a client of the agent of a node.
func (l *Lab) Agent(node string) *client.Agent {
	return client.NewAgent(filepath.Join(l.runDir(node), "agent.sock"))
}

// Open finds the lab name.
func Open(name string) (*Lab, error) {
	if err := checkLabName(name); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(stateRoot, name, "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknown(name)
	}
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	l := &Lab{}
	if err := json.Unmarshal(data, l); err != nil || l.Topology == nil || l.Name != name {
		return nil, fmt.Errorf("open lab %s: lab.json is damaged: %v; 'weft lab down %s' removes the lab", name, err, name)
	}
	return l, nil
}

// List returns the labs of this machine, sorted by name; one whose lab.json is damaged has a name only.
func List() ([]*Lab, error) {
	names, err := labNames()
	if err != nil {
		return nil, err
	}
	var labs []*Lab
	for _, name := range names {
		l, err := Open(name)
		if err != nil {
			l = &Lab{Name: name, Topology: &Topology{}}
		}
		labs = append(labs, l)
	}
	return labs, nil
}

func labNames() ([]string, error) {
	entries, err := os.ReadDir(stateRoot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkLabName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// unknown says which labs there are instead.
func unknown(name string) error {
	names, err := labNames()
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return fmt.Errorf("%w: %s; there is none, 'weft lab up' makes one", ErrUnknown, name)
	default:
		return fmt.Errorf("%w: %s; there are: %s", ErrUnknown, name, strings.Join(names, ", "))
	}
}

// checkLabName admits no '-', so that the names of what two labs have never begin alike.
func checkLabName(name string) error {
	if len(name) > nameMost || !nameForm.MatchString(name) || strings.Contains(name, "-") {
		return fmt.Errorf("%q is not a name for a lab: lower-case letters and digits, at most %d, for example dc2", name, nameMost)
	}
	return nil
}

// save writes lab.json so that a crash leaves the old one or the new one.
func (l *Lab) save() error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	next := filepath.Join(l.Dir(), "lab.json.new")
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	if err := os.Rename(next, filepath.Join(l.Dir(), "lab.json")); err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	dir, err := os.Open(l.Dir())
	if err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock makes sure that one process at a time changes the lab. The folder must exist. A child that a process had just forked as it was
// killed has the lock for a moment more.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock lab: %w", err)
	}
	for end := time.Now().Add(time.Second); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("%w: %s", ErrBusy, filepath.Base(dir))
		}
	}
	return func() { // explicitly: a child that was forked just now has the descriptor until it runs its program
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}, nil
}

// Target finds the namespace of a node or of a workload (TENANT/PORT).
func (l *Lab) Target(name string) (netNS string, err error) {
	if l.Topology.node(name) != nil {
		return l.netNS(name), nil
	}
	i := slices.IndexFunc(l.Workloads, func(w Workload) bool { return w.Port == name })
	if i >= 0 {
		return l.Workloads[i].NetNS, nil
	}
	return "", fmt.Errorf("%w: %s; lab %s has %s", ErrTarget, name, l.Name, strings.Join(l.Targets(), ", "))
}

// Targets lists the names of nodes and workloads.
func (l *Lab) Targets() []string {
	var names []string
	for _, n := range l.Topology.Nodes {
		names = append(names, n.Name)
	}
	for _, w := range l.Workloads {
		names = append(names, w.Port)
	}
	return names
}
