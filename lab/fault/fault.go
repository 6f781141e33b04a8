// SPDX-License-Identifier: Apache-2.0

// Package fault breaks parts of a lab on purpose, and mends them again.
//
// A fault is written down before it is made, so that another call of the command line, or the lab's end, finds it.
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"weft/lab"
)

var (
	// ErrNone says that no such fault is in effect.
	ErrNone = errors.New("no such fault")
	// ErrActive says that what is to be broken is broken already.
	ErrActive = errors.New("fault is in effect already")
	// ErrArgument says that a fault is not described as its kind wants it.
	ErrArgument = errors.New("wrong argument")
)

// Config describes a fault.
type Config struct {
	What    string        `json:"what"`           // the name of a Kind
	Where   string        `json:"where"`          // as the kind's Where says
	From    string        `json:"from,omitempty"` // partition: the other set; none: all other nodes
	Percent float64       `json:"percent,omitempty"`
	Seed    uint64        `json:"seed,omitempty"` // 0: chosen
	Both    bool          `json:"both,omitempty"` // in both directions of a link
	By      time.Duration `json:"by,omitempty"`
}

// Fault is one that is in effect.
type Fault struct {
	Config
	ID    int       `json:"id"`
	Since time.Time `json:"since"`
	Down  []End     `json:"down,omitempty"` // ends of links that were taken down
	Pins  []string  `json:"pins,omitempty"` // of programs, below the lab's FaultPins

	Relays []Relay `json:"relays,omitempty"`
}

// Relay is a process of a fault's own.
type Relay struct {
	Node, Program string
}

// End is a device of a node.
type End struct {
	Node, Device string
}

// String is how the user names the fault.
func (f Fault) String() string {
	s := f.What + " " + f.Where
	if f.From != "" {
		s += " from " + f.From
	}
	return s
}

// Kind is a way to break something.
type Kind struct {
	Name  string
	Where string // what it takes
	Short string
	Heals string // what healing it does; "": there is nothing to heal

	begin, end func(context.Context, *work) error
}

// Kinds lists all ways to break something.
func Kinds() []Kind {
	return []Kind{
		{"kill", "NODE[:PROGRAM]", "a process is killed (SIGKILL)", "starts it again", kill, startAgain},
		{"pause", "NODE[:PROGRAM]", "a process is stopped (SIGSTOP)", "lets it go on", pause, resume},
		{"node-dead", "NODE", "all links of a node down and its processes killed, at one moment", "boots it from its disk", nodeDead, nodeBoots},
		{"reboot", "NODE", "a node dies and comes back, with its disk alone", "", reboot, nil},
		{"link-cut", "NODE:PEER", "a link has no carrier at either end", "mends it", linkCut, mendLinks},
		{"loss", "NODE:PEER", "packets are lost on a link, one way or both", "ends it", loss, unpin},
		{"delay", "NODE:PEER", "packets take longer on a link, one way or both", "ends it", delay, undelay},
		{"partition", "NODE[,NODE...] [NODE[,NODE...]]", "packets between two sets of nodes are lost", "joins them", partition, unpin},
		{"disk-full", "NODE", "the disk of a server or agent has no byte left (it gets a small one, and starts again on it)", "frees it", diskFull, freeDisk},
		{"clock", "NODE", "a server or agent starts again with a clock that is ahead or behind", "sets it right in the same way", clockStep, clockBack},
		{"rehash", "NODE|all", "flows choose among equal ways anew", "lets them choose as before", rehash, unhash},
	}
}

// work is one fault that begins or ends.
type work struct {
	l      *lab.Lab
	fault  *Fault
	others []Fault // that are in effect
	save   func() error
}

// Begin makes a fault. What fails half way is healed.
func Begin(ctx context.Context, l *lab.Lab, cfg Config) (*Fault, error) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == cfg.What })
	if i < 0 {
		return nil, fmt.Errorf("%w: no fault is called %q; 'weft lab fault --help' lists them", ErrArgument, cfg.What)
	}
	unlock, err := l.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	active, err := load(l)
	if err != nil {
		return nil, err
	}
	f := Fault{Config: cfg, ID: 1, Since: time.Now().UTC()}
	for _, a := range active {
		f.ID = max(f.ID, a.ID+1)
		if a.String() == f.String() {
			return nil, fmt.Errorf("%w: %s, since %s; 'weft lab fault heal %d' ends it", ErrActive, a, a.Since.Local().Format(time.TimeOnly), a.ID)
		}
	}
	w := &work{l: l, fault: &f, others: active}
	w.save = func() error { return store(l, append(slices.Clone(active), f)) }
	if err := kinds[i].begin(ctx, w); err != nil {
		if kinds[i].end != nil && len(f.Down)+len(f.Pins)+len(f.Relays) > 0 {
			err = errors.Join(err, kinds[i].end(ctx, w))
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", f, err), store(l, active))
	}
	if kinds[i].end == nil {
		return &f, store(l, active)
	}
	return &f, w.save()
}

// Heal ends a fault: its number, or what and where, as Begin got them.
func Heal(ctx context.Context, l *lab.Lab, which string) (*Fault, error) {
	unlock, err := l.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	active, err := load(l)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(active, func(f Fault) bool { return fmt.Sprint(f.ID) == which || f.String() == which })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s; %s", ErrNone, which, told(active))
	}
	return &active[i], heal(ctx, l, active, i)
}

// HealAll ends all faults, the last one first, and returns those that it ended.
func HealAll(ctx context.Context, l *lab.Lab) ([]Fault, error) {
	unlock, err := l.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	active, err := load(l)
	if err != nil {
		return nil, err
	}
	var healed []Fault
	for i := len(active) - 1; i >= 0; i-- {
		if err := heal(ctx, l, active[:i+1], i); err != nil {
			return healed, err
		}
		healed = append(healed, active[i])
	}
	return healed, nil
}

// Active lists the faults in effect, the oldest first.
func Active(l *lab.Lab) ([]Fault, error) { return load(l) }

func heal(ctx context.Context, l *lab.Lab, active []Fault, i int) error {
	f := active[i]
	kinds := Kinds()
	k := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == f.What })
	if k < 0 {
		return fmt.Errorf("heal %s: %w: this weft does not know the fault; 'weft lab down' removes the lab with it", f, ErrNone)
	}
	others := slices.Delete(slices.Clone(active), i, i+1)
	if err := kinds[k].end(ctx, &work{l: l, fault: &f, others: others}); err != nil {
		return fmt.Errorf("heal %s: %w", f, err)
	}
	return store(l, others)
}

func told(active []Fault) string {
	if len(active) == 0 {
		return "none is in effect"
	}
	var names []string
	for _, f := range active {
		names = append(names, fmt.Sprintf("%d (%s)", f.ID, f))
	}
	return "in effect: " + strings.Join(names, ", ")
}

func load(l *lab.Lab) ([]Fault, error) {
	data, err := os.ReadFile(l.FaultFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var active []Fault
	if err == nil {
		err = json.Unmarshal(data, &active)
	}
	if err != nil {
		return nil, fmt.Errorf("read the faults of lab %s: %w", l.Name, err)
	}
	return active, nil
}

// store replaces the file in one step.
func store(l *lab.Lab, active []Fault) error {
	data, err := json.MarshalIndent(active, "", "  ")
	if err != nil {
		return fmt.Errorf("write down the faults of lab %s: %w", l.Name, err)
	}
	next := l.FaultFile() + ".new"
	if err = os.WriteFile(next, data, 0o600); err == nil {
		err = os.Rename(next, l.FaultFile())
	}
	if err != nil {
		return fmt.Errorf("write down the faults of lab %s: %w", l.Name, err)
	}
	return nil
}

// program splits NODE[:PROGRAM] and finds it among the lab's processes. One that an agent started has no number here.
func (w *work) program() (lab.Process, error) {
	node, program, named := strings.Cut(w.fault.Where, ":")
	if err := w.node(node); err != nil {
		return lab.Process{}, err
	}
	for _, p := range w.l.Processes {
		if p.Node == node && (p.Program == program || !named && (p.Program == "server" || p.Program == "agent")) {
			return p, nil
		}
	}
	if !named {
		return lab.Process{}, fmt.Errorf("%w: no server or agent runs on %s: name a program, as in %s:bgp", lab.ErrTarget, node, node)
	}
	return lab.Process{Node: node, Program: program}, nil
}

// node checks that the lab has the node.
func (w *work) node(name string) error {
	nodes := w.nodes()
	if !slices.Contains(nodes, name) {
		return fmt.Errorf("%w: %q is not a node of lab %s; it has %s", lab.ErrTarget, name, w.l.Name, strings.Join(nodes, ", "))
	}
	return nil
}

// netNS is the namespace of a node, or a name that no namespace has.
func (w *work) netNS(node string) string {
	name, _ := w.l.Target(node) // that there is none is said by who opens it
	return name
}

func (w *work) nodes() []string {
	var names []string
	for _, n := range w.l.Topology.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// wire finds the link NODE:PEER; its first end is NODE's.
func (w *work) wire() (lab.Wire, error) {
	node, peer, ok := strings.Cut(w.fault.Where, ":")
	if !ok {
		return lab.Wire{}, fmt.Errorf("%w: a link is named NODE:PEER, for example host-1:tor-1", ErrArgument)
	}
	if err := w.node(node); err != nil {
		return lab.Wire{}, err
	}
	var peers []string
	for _, k := range w.l.Wiring() {
		for i := range k {
			if k[i].Node != node {
				continue
			}
			if k[i].Device == peer {
				return lab.Wire{k[i], k[1-i]}, nil
			}
			peers = append(peers, k[i].Device)
		}
	}
	return lab.Wire{}, fmt.Errorf("%w: %s has no link to %q, but to %s", lab.ErrTarget, node, peer, strings.Join(peers, ", "))
}

// Places lists what of a lab the kind can break, for completion.
func (k Kind) Places(l *lab.Lab) []string {
	var places []string
	switch {
	case strings.HasPrefix(k.Where, "NODE:PEER"):
		for _, wire := range l.Wiring() {
			for _, e := range wire {
				places = append(places, e.Node+":"+e.Device)
			}
		}
	case strings.HasPrefix(k.Where, "NODE[:PROGRAM]"):
		for _, p := range l.Processes {
			places = append(places, p.Node+":"+p.Program)
		}
	default:
		places = (&work{l: l}).nodes()
		if strings.Contains(k.Where, "all") {
			places = append(places, "all")
		}
	}
	return places
}
