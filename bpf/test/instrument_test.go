// SPDX-License-Identifier: Apache-2.0

package test

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A test run does not show where a packet was redirected, has no tunnel, and counts no lookups. So calls of the helpers
// concerned are exchanged, one instruction for one, for calls of small functions that note what they are asked in a
// map of one record, and do it where that is possible.

// Words of the record, 8 bytes each.
const (
	notedPorts = iota // lookups
	notedLocations
	notedSenders
	notedRoutes
	notedSources
	notedRedirect // 1: bpf_redirect, 2: bpf_redirect_peer
	notedIfIndex
	notedType    // packet type asked for, plus 1
	notedTunnel  // 1: a tunnel key was set
	notedVNI     // as set
	notedRemote  // as set, host byte order
	notedLocal   // as set, host byte order
	givenTunnel  // 1: the packet has a tunnel key
	givenVNI     // to be got
	givenRemote  // to be got, host byte order
	notedRecords // number of words
)

const recordName = "test_record"

// Offsets in struct bpf_tunnel_key.
const (
	tunnelID     = 0
	tunnelRemote = 4
	tunnelLocal  = 28
)

// instrument exchanges the calls in all programs. Helpers in failing answer -ENOMEM and do nothing.
func instrument(spec *ebpf.CollectionSpec, failing ...asm.BuiltinFunc) {
	spec.Maps[recordName] = &ebpf.MapSpec{Name: recordName, Type: ebpf.Array, KeySize: 4, ValueSize: notedRecords * 8, MaxEntries: 1}
	for _, p := range spec.Programs {
		p.Instructions = exchange(p.Instructions, failing)
	}
}

func exchange(program asm.Instructions, failing []asm.BuiltinFunc) asm.Instructions {
	used := map[string]asm.Instructions{}
	for i, ins := range program {
		// Debug information is left behind: it would have to cover the new functions. What is resolved against the kernel
		// at load stays.
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
		for _, f := range failing {
			if f == helper {
				program[i] = asm.Mov.Imm(asm.R0, -12)
			}
		}
		name, body := replacement(program, i, helper)
		if body != nil && program[i].IsBuiltinCall() {
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

func replacement(program asm.Instructions, call int, helper asm.BuiltinFunc) (string, asm.Instructions) {
	switch helper {
	case asm.FnMapLookupElem:
		word, ok := map[string]int16{"port_info": notedPorts, "ovl_locations": notedLocations, "ovl_senders": notedSenders, "rt_routes": notedRoutes, "port_sources": notedSources}[mapOf(program, call)]
		if ok {
			return "noted_lookup_" + mapOf(program, call), notedLookup(word)
		}
	case asm.FnRedirect:
		return "noted_redirect", notedRedirection(1)
	case asm.FnRedirectPeer:
		return "noted_redirect_peer", notedRedirection(2)
	case asm.FnSkbChangeType:
		return "noted_change_type", notedChangeType()
	case asm.FnSkbSetTunnelKey:
		return "noted_set_tunnel", notedSetTunnel()
	case asm.FnSkbGetTunnelKey:
		return "given_get_tunnel", givenGetTunnel()
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
		asm.LoadMapPtr(asm.R1, 0).WithReference(recordName),
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

func notedLookup(word int16) asm.Instructions {
	return record(
		asm.LoadMem(asm.R1, asm.R0, word*8, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, word*8, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.FnMapLookupElem.Call(),
		asm.Return(),
	)
}

func notedRedirection(kind int64) asm.Instructions {
	return record(
		asm.StoreImm(asm.R0, notedRedirect*8, kind, asm.Word),
		asm.StoreMem(asm.R0, notedIfIndex*8, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, redirected),
		asm.Return(),
	)
}

func notedChangeType() asm.Instructions {
	return record(
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, notedType*8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
}

func notedSetTunnel() asm.Instructions {
	return record(
		asm.StoreImm(asm.R0, notedTunnel*8, 1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, tunnelID, asm.Word),
		asm.StoreMem(asm.R0, notedVNI*8, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, tunnelRemote, asm.Word),
		asm.StoreMem(asm.R0, notedRemote*8, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, tunnelLocal, asm.Word),
		asm.StoreMem(asm.R0, notedLocal*8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
}

func givenGetTunnel() asm.Instructions {
	return record(
		asm.LoadMem(asm.R1, asm.R0, givenTunnel*8, asm.DWord),
		skipTwoUnlessZero(asm.R1),
		asm.Mov.Imm(asm.R0, -22),
		asm.Return(),
		asm.LoadMem(asm.R1, asm.R0, givenVNI*8, asm.DWord),
		asm.StoreMem(asm.R7, tunnelID, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R0, givenRemote*8, asm.DWord),
		asm.StoreMem(asm.R7, tunnelRemote, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
}

// Every call that instrument looks for is there, so that none is exchanged in vain.
func TestInstrumentFindsEveryCall(t *testing.T) {
	spec := loadSpec(t)
	found := map[string]bool{}
	for _, p := range spec.Programs {
		for i, ins := range p.Instructions {
			if ins.IsBuiltinCall() {
				name, _ := replacement(p.Instructions, i, asm.BuiltinFunc(ins.Constant))
				found[name] = true
			}
		}
	}
	for _, want := range []string{
		"noted_lookup_port_info", "noted_lookup_ovl_locations", "noted_lookup_ovl_senders",
		"noted_lookup_rt_routes", "noted_lookup_port_sources",
		"noted_redirect", "noted_redirect_peer", "noted_change_type", "noted_set_tunnel", "given_get_tunnel",
	} {
		if !found[want] {
			t.Errorf("no call for %s", want)
		}
	}
}
