// SPDX-License-Identifier: Apache-2.0

// Package instrument makes visible what a test run of the packet path's programs does not show.
//
// A test run tells neither where a packet was redirected nor what was looked up, has no tunnel, and counts over all
// packets. So calls of the helpers concerned are exchanged, one instruction for one, for calls of small functions that note
// what they are asked in a map of one record, and do it where that is possible.
package instrument

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// MapName is the map that holds the record.
const MapName = "test_record"

// Record is what was noted of one run, and what the run is given.
type Record struct {
	Ports, Locations, Senders, Routes, Sources uint64 // lookups

	Redirect uint64    // 1: bpf_redirect, 2: bpf_redirect_peer
	IfIndex  uint64    // of the redirect
	PktType  uint64    // packet type asked for, plus 1
	Drop     [2]uint32 // key of drop_count: tenant and reason
	Pass     uint64    // index of pass_count, plus 1
	Receive  uint64    // index of receive_count, plus 1

	Tunnel        uint64 // 1: a tunnel key was set
	VNI           uint64
	Remote, Local [16]byte // TunnelAddress of its ends
	TTL, Flags    uint64   // of the outer header; what else was asked of the helper

	// What the run is given: a tunnel key (1: there is one), its VNI, and TunnelAddress of the outer source.
	HasTunnel, FromVNI uint64
	From               [16]byte
}

// Words of the record, 8 bytes each.
const (
	wordPorts = iota
	wordLocations
	wordSenders
	wordRoutes
	wordSources
	wordRedirect
	wordIfIndex
	wordType
	wordDrop
	wordPass
	wordReceive
	wordTunnel
	wordVNI
	wordRemote
	wordLocal     = wordRemote + 2
	wordTTL       = wordLocal + 2
	wordFlags     = wordTTL + 1
	wordHasTunnel = wordFlags + 1
	wordGivenVNI  = wordHasTunnel + 1
	wordFrom      = wordGivenVNI + 1
	words         = wordFrom + 2
)

// Offsets in struct bpf_tunnel_key.
const (
	tunnelID     = 0
	tunnelRemote = 4
	tunnelTTL    = 21
	tunnelLocal  = 28
)

// Redirected is the verdict of a redirect.
const Redirected = 7

// Options change what programs do.
type Options struct {
	Failing   []asm.BuiltinFunc // helpers that answer -ENOMEM and do nothing
	Unlimited bool              // nothing is limited in rate
}

// Programs exchanges the calls in all programs of spec, and adds the record's map.
func Programs(spec *ebpf.CollectionSpec, o Options) {
	spec.Maps[MapName] = &ebpf.MapSpec{Name: MapName, Type: ebpf.Array, KeySize: 4, ValueSize: words * 8, MaxEntries: 1}
	for _, p := range spec.Programs {
		p.Instructions = o.exchange(p.Instructions)
	}
}

// Found returns the names of the exchanged functions that are called in a program.
func Found(program asm.Instructions) []string {
	var found []string
	for i, ins := range program {
		if ins.IsBuiltinCall() {
			if name, body := (Options{}).replacement(program, i, asm.BuiltinFunc(ins.Constant)); body != nil {
				found = append(found, name)
			}
		}
	}
	return found
}

func (o Options) exchange(program asm.Instructions) asm.Instructions {
	used := map[string]asm.Instructions{}
	for i, ins := range program {
		// Debug information is left behind: it would have to cover the new functions, and global functions are walked like
		// others. What is resolved against the kernel at load stays.
		if ins.IsKfuncCall() || btf.CORERelocationMetadata(&ins) != nil {
			program[i] = ins.WithSource(nil)
			continue
		}
		program[i] = asm.Instruction{OpCode: ins.OpCode, Dst: ins.Dst, Src: ins.Src, Offset: ins.Offset, Constant: ins.Constant}.
			WithSymbol(ins.Symbol()).WithReference(ins.Reference())
		if !ins.IsBuiltinCall() {
			continue
		}
		helper := asm.BuiltinFunc(ins.Constant)
		if slices.Contains(o.Failing, helper) {
			program[i] = asm.Mov.Imm(asm.R0, -12).WithSymbol(ins.Symbol())
			continue
		}
		if name, body := o.replacement(program, i, helper); body != nil {
			used[name] = body
			program[i] = asm.Call.Label(name).WithSymbol(ins.Symbol())
		}
	}
	for name, body := range used {
		body[0] = body[0].WithSymbol(name)
		program = append(program, body...)
	}
	return program
}

func (o Options) replacement(program asm.Instructions, call int, helper asm.BuiltinFunc) (string, asm.Instructions) {
	switch helper {
	case asm.FnMapLookupElem:
		return o.lookup(mapOf(program, call))
	case asm.FnMapUpdateElem:
		if o.Unlimited && mapOf(program, call) == "rate_buckets" {
			return "unlimited_update", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
		}
	case asm.FnRedirect:
		return "noted_redirect", notedRedirect(1)
	case asm.FnRedirectPeer:
		return "noted_redirect_peer", notedRedirect(2)
	case asm.FnSkbChangeType:
		return "noted_change_type", notedChangeType()
	case asm.FnSkbSetTunnelKey:
		return "noted_set_tunnel", notedSetTunnel()
	case asm.FnSkbGetTunnelKey:
		return "given_get_tunnel", givenGetTunnel()
	}
	return "", nil
}

// lookup is the function in place of a lookup in a map; none for maps that are nobody's business.
func (o Options) lookup(table string) (string, asm.Instructions) {
	counted := map[string]int16{
		"port_info": wordPorts, "ovl_locations": wordLocations, "ovl_senders": wordSenders, "rt_routes": wordRoutes,
		"port_sources": wordSources,
	}
	if word, ok := counted[table]; ok {
		return "noted_lookup_" + table, andLookUp(
			asm.LoadMem(asm.R1, asm.R0, word*8, asm.DWord),
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, word*8, asm.R1, asm.DWord),
		)
	}
	index := map[string]int16{"pass_count": wordPass, "receive_count": wordReceive}
	if word, ok := index[table]; ok {
		return "noted_index_" + table, andLookUp(
			asm.LoadMem(asm.R1, asm.R7, 0, asm.Word),
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, word*8, asm.R1, asm.DWord),
		)
	}
	switch {
	case table == "drop_count":
		return "noted_key_drop_count", andLookUp(
			asm.LoadMem(asm.R1, asm.R7, 0, asm.Word),
			asm.StoreMem(asm.R0, wordDrop*8, asm.R1, asm.Word),
			asm.LoadMem(asm.R1, asm.R7, 4, asm.Word),
			asm.StoreMem(asm.R0, wordDrop*8+4, asm.R1, asm.Word),
		)
	case table == "rate_buckets" && o.Unlimited:
		return "unlimited_lookup", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}
	return "", nil
}

// mapOf is the map whose pointer was last put into R1 before a call.
func mapOf(program asm.Instructions, call int) string {
	for i := call - 1; i >= 0; i-- {
		if program[i].Dst == asm.R1 && program[i].OpCode.IsDWordLoad() {
			return program[i].Reference()
		}
	}
	return ""
}

// record keeps the first two arguments in R6 and R7 and puts the record into R0.
func record(body ...asm.Instruction) asm.Instructions {
	return append(asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Reg(asm.R7, asm.R2),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, 0).WithReference(MapName),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		skipTwoUnlessZero(asm.R0),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}, body...)
}

func skipTwoUnlessZero(r asm.Register) asm.Instruction {
	jump := asm.JNE.Imm(r, 0, "")
	jump.Offset = 2
	return jump
}

// andLookUp notes something and then does what was asked.
func andLookUp(note ...asm.Instruction) asm.Instructions {
	return record(append(note,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.FnMapLookupElem.Call(),
		asm.Return(),
	)...)
}

func notedRedirect(kind int64) asm.Instructions {
	return record(
		asm.StoreImm(asm.R0, wordRedirect*8, kind, asm.Word),
		asm.StoreMem(asm.R0, wordIfIndex*8, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, Redirected),
		asm.Return(),
	)
}

func notedChangeType() asm.Instructions {
	return record(
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, wordType*8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
}

// copyWords copies 16 bytes by words, as neither side is aligned to more.
func copyWords(dst asm.Register, to int16, src asm.Register, from int16) (body []asm.Instruction) {
	for i := int16(0); i < 16; i += 4 {
		body = append(body, asm.LoadMem(asm.R1, src, from+i, asm.Word), asm.StoreMem(dst, to+i, asm.R1, asm.Word))
	}
	return body
}

func notedSetTunnel() asm.Instructions {
	keepFlags := asm.Mov.Reg(asm.R8, asm.R4) // the fourth argument is gone after the first call
	return append(asm.Instructions{keepFlags}, record(slices.Concat(
		[]asm.Instruction{
			asm.StoreImm(asm.R0, wordTunnel*8, 1, asm.Word),
			asm.LoadMem(asm.R1, asm.R7, tunnelID, asm.Word),
			asm.StoreMem(asm.R0, wordVNI*8, asm.R1, asm.DWord),
			asm.LoadMem(asm.R1, asm.R7, tunnelTTL, asm.Byte),
			asm.StoreMem(asm.R0, wordTTL*8, asm.R1, asm.DWord),
			asm.StoreMem(asm.R0, wordFlags*8, asm.R8, asm.DWord),
		},
		copyWords(asm.R0, wordRemote*8, asm.R7, tunnelRemote),
		copyWords(asm.R0, wordLocal*8, asm.R7, tunnelLocal),
		[]asm.Instruction{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	)...)...)
}

func givenGetTunnel() asm.Instructions {
	return record(slices.Concat(
		[]asm.Instruction{
			asm.LoadMem(asm.R1, asm.R0, wordHasTunnel*8, asm.DWord),
			skipTwoUnlessZero(asm.R1),
			asm.Mov.Imm(asm.R0, -22),
			asm.Return(),
			asm.LoadMem(asm.R1, asm.R0, wordGivenVNI*8, asm.DWord),
			asm.StoreMem(asm.R7, tunnelID, asm.R1, asm.Word),
		},
		copyWords(asm.R7, tunnelRemote, asm.R0, wordFrom*8),
		[]asm.Instruction{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	)...)
}

// TunnelAddress is an address as struct bpf_tunnel_key has it: IPv4 as a number in host byte order.
func TunnelAddress(a netip.Addr) (out [16]byte) {
	if a.Is4() {
		b := a.As4()
		binary.NativeEndian.PutUint32(out[:], binary.BigEndian.Uint32(b[:]))
		return out
	}
	return a.As16()
}
