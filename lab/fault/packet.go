// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"weft/internal/netns"
)

// Verdicts of a tc program (linux/bpf.h).
const (
	tcxNext     = -1
	tcxDrop     = 2
	tcxRedirect = 7 // as bpf_redirect returns it
)

// Tally is what a fault's programs have seen and dropped.
type Tally struct{ Seen, Dropped uint64 }

// loss drops some of what a node sends by a link: which, is decided by the seed and the packet's place in the row.
func loss(_ context.Context, w *work) error {
	wire, err := w.wire()
	if err != nil {
		return err
	}
	if w.fault.Percent <= 0 || w.fault.Percent > 100 {
		return fmt.Errorf("%w: --percent is more than 0 and at most 100", ErrArgument)
	}
	if w.fault.Seed == 0 {
		w.fault.Seed = uint64(time.Now().UnixNano())
	}
	ends := wire[:1]
	if w.fault.Both {
		ends = wire[:]
	}
	for _, e := range ends {
		decide := dropSome(w.fault.Percent, w.fault.Seed)
		if err := w.attach(End{e.Node, e.Device}, ebpf.AttachTCXEgress, decide); err != nil {
			return err
		}
	}
	return nil
}

// dropSome jumps to "drop" for so many of all packets. The number of the packet is in r7.
func dropSome(percent float64, seed uint64) asm.Instructions {
	mix := func(shift int32, factor uint64) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.R7), asm.RSh.Imm(asm.R2, shift), asm.Xor.Reg(asm.R7, asm.R2),
			asm.LoadImm(asm.R2, int64(factor), asm.DWord), asm.Mul.Reg(asm.R7, asm.R2),
		}
	}
	code := asm.Instructions{ // SplitMix64, by Steele, Lea and Flood
		asm.LoadImm(asm.R2, -0x61c8864680b583eb, asm.DWord), asm.Mul.Reg(asm.R7, asm.R2),
		asm.LoadImm(asm.R2, int64(seed), asm.DWord), asm.Add.Reg(asm.R7, asm.R2),
	}
	code = append(code, mix(30, 0xbf58476d1ce4e5b9)...)
	code = append(code, mix(27, 0x94d049bb133111eb)...)
	return append(code,
		asm.RSh.Imm(asm.R7, 32),
		asm.LoadImm(asm.R2, int64(percent/100*(1<<32)), asm.DWord),
		asm.JLT.Reg(asm.R7, asm.R2, "drop"),
	)
}

// partition drops at the nodes of one set what they send to the other set, or get from it.
func partition(_ context.Context, w *work) error {
	inside := strings.Split(w.fault.Where, ",")
	var outside []string
	if w.fault.From != "" {
		outside = strings.Split(w.fault.From, ",")
	} else {
		outside = slices.DeleteFunc(w.nodes(), func(n string) bool { return slices.Contains(inside, n) })
	}
	for _, n := range slices.Concat(inside, outside) {
		if err := w.node(n); err != nil {
			return err
		}
	}
	for _, n := range inside {
		if slices.Contains(outside, n) {
			return fmt.Errorf("%w: %s is on both sides", ErrArgument, n)
		}
	}
	far := w.addresses(outside)
	for _, k := range w.l.Wiring() {
		for _, e := range k {
			if !slices.Contains(inside, e.Node) {
				continue
			}
			end := End{e.Node, e.Device}
			if err := w.attach(end, ebpf.AttachTCXEgress, dropBetween(far, true)); err != nil {
				return err
			}
			if err := w.attach(end, ebpf.AttachTCXIngress, dropBetween(far, false)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addresses lists tunnel ends and link addresses of nodes.
func (w *work) addresses(nodes []string) []netip.Addr {
	var all []netip.Addr
	for _, n := range w.l.Graph().Nodes {
		if a, err := netip.ParseAddr(n.Address); err == nil && slices.Contains(nodes, n.Name) {
			all = append(all, a)
		}
	}
	for _, k := range w.l.Wiring() {
		for _, e := range k {
			if slices.Contains(nodes, e.Node) {
				all = append(all, e.Address.Addr())
			}
		}
	}
	return all
}

// Where addresses lie in a frame; of IPv6 the last four bytes, in which those of a lab differ.
const (
	typeAt               = 12
	ipv4Source, ipv4Dest = 14 + 12, 14 + 16
	ipv6Source, ipv6Dest = 14 + 8 + 12, 14 + 24 + 12
)

// dropBetween jumps to "drop" if the destination, or the source, is one of the addresses.
func dropBetween(far []netip.Addr, destination bool) asm.Instructions {
	at4, at6 := int32(ipv4Source), int32(ipv6Source)
	if destination {
		at4, at6 = ipv4Dest, ipv6Dest
	}
	code := asm.Instructions{
		asm.LoadAbs(typeAt, asm.Half),
		asm.JEq.Imm(asm.R0, 0x0800, "ipv4"),
		asm.JEq.Imm(asm.R0, 0x86dd, "ipv6"),
		asm.Ja.Label("next"),
		asm.LoadAbs(at6, asm.Word).WithSymbol("ipv6"),
		asm.Ja.Label("compare"),
		asm.LoadAbs(at4, asm.Word).WithSymbol("ipv4"),
		asm.Mov.Reg(asm.R2, asm.R0).WithSymbol("compare"),
	}
	for _, a := range far {
		b := a.AsSlice()
		code = append(code, asm.JEq.Imm32(asm.R2, int32(binary.BigEndian.Uint32(b[len(b)-4:])), "drop"))
	}
	return code
}

// attach puts a program on a device and pins it.
func (w *work) attach(e End, at ebpf.AttachType, decide asm.Instructions) error {
	direction := "from"
	if at == ebpf.AttachTCXIngress {
		direction = "to"
	}
	pin := filepath.Join(w.l.FaultPins(), fmt.Sprintf("%d_%s_%s_%s", w.fault.ID, e.Node, e.Device, direction))
	w.fault.Pins = append(w.fault.Pins, pin)
	if err := errors.Join(w.save(), os.MkdirAll(w.l.FaultPins(), 0o700)); err != nil {
		return err
	}
	program, counts, err := build(decide)
	if err != nil {
		return err
	}
	defer program.Close()
	defer counts.Close()
	return netns.Do(w.netNS(e.Node), func() error {
		device, err := net.InterfaceByName(e.Device)
		if err != nil {
			return fmt.Errorf("find device %s of %s: %w", e.Device, e.Node, err)
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: program, Attach: at})
		if err != nil {
			return fmt.Errorf("attach to %s of %s: %w", e.Device, e.Node, err)
		}
		defer l.Close()
		return errors.Join(l.Pin(pin), counts.Pin(pin+tallyEnd))
	})
}

// build makes a program that counts packets and lets decide jump to "drop", and its counters.
func build(decide asm.Instructions) (*ebpf.Program, *ebpf.Map, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Name: "fault_tally", Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		return nil, nil, fmt.Errorf("make the fault's counters: %w", err)
	}
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), // where LoadAbs looks for the packet
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R7, asm.R8, 0, asm.DWord), // two packets at once may get one number
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R8, asm.R1, asm.DWord, 0),
	}
	code = append(code, decide...)
	code = append(code,
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"),
		asm.Return(),
		asm.Mov.Imm(asm.R7, 1).WithSymbol("drop"),
		asm.AddAtomic.Mem(asm.R8, asm.R7, asm.DWord, 8),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "fault", Type: ebpf.SchedCLS, Instructions: code, License: "Apache-2.0"})
	if err != nil {
		counts.Close()
		return nil, nil, fmt.Errorf("load the fault's program: %w", err)
	}
	return program, counts, nil
}

// tallyEnd ends the name of the pin of a program's counters.
const tallyEnd = "_tally"

// unpin ends the fault's programs.
func unpin(_ context.Context, w *work) error {
	for _, pin := range w.fault.Pins {
		for _, p := range []string{pin, pin + tallyEnd} {
			if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("detach: %w", err)
			}
		}
	}
	return nil
}

// Count reads what the programs of a fault have seen and dropped; nothing, if it has none.
func (f Fault) Count() (Tally, error) {
	var sum Tally
	for _, pin := range f.Pins {
		m, err := ebpf.LoadPinnedMap(pin+tallyEnd, &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return sum, fmt.Errorf("read the counters of %s: %w", f, err)
		}
		var t Tally
		err = m.Lookup(uint32(0), &t)
		m.Close()
		if err != nil {
			return sum, fmt.Errorf("read the counters of %s: %w", f, err)
		}
		sum.Seen, sum.Dropped = sum.Seen+t.Seen, sum.Dropped+t.Dropped
	}
	return sum, nil
}
