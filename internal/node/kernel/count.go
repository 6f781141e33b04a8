// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"weft/internal/node/kernel/device"
)

// DropCount is how much of a tenant's traffic was dropped for a reason, as on a real wire.
type DropCount struct {
	Tenant  uint32 // 0: the packets belonged to no known tenant
	Reason  DropReason
	Packets uint64 // segments of a super-packet count each
	Bytes   uint64 // layer 3, headers once per segment
}

// Drops returns the drop counters, in order of tenant and reason.
func (d *Datapath) Drops() ([]DropCount, error) {
	var (
		counts []DropCount
		key    bpfDropKey
		values []bpfDropValue // one for each CPU
	)
	entries := d.maps[bpfMapDropCount].Iterate()
	for entries.Next(&key, &values) {
		c := DropCount{Tenant: key.Tenant, Reason: DropReason(key.Reason)}
		for _, v := range values {
			c.Packets += v.Packets
			c.Bytes += v.Bytes
		}
		counts = append(counts, c)
	}
	// Nothing is ever deleted, so an iteration that began again only means that the map grew meanwhile.
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("read drop counters: %w", err)
	}
	slices.SortFunc(counts, func(a, b DropCount) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Reason, b.Reason))
	})
	return counts, nil
}

// TenantDrops reads the drop counters of one tenant, by reason; of tenant 0, those of packets that belong to none. It
// costs a lookup for each reason, however many tenants there are.
func (d *Datapath) TenantDrops(tenant uint32) (map[DropReason]uint64, error) {
	counts := make(map[DropReason]uint64)
	var values []bpfDropValue // one for each CPU
	for _, reason := range DropReasons() {
		err := d.maps[bpfMapDropCount].Lookup(bpfDropKey{Tenant: tenant, Reason: uint16(reason)}, &values)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read drop counters of tenant %d: %w", tenant, err)
		}
		for _, v := range values {
			counts[reason] += v.Packets
		}
	}
	return counts, nil
}

// PassKind says what became of packets that were not dropped.
type PassKind uint32

// What became of packets that were not dropped. The numbers are those of enum pass_kind.
const (
	PassLocal       PassKind = iota // from a port to a port of the same node
	PassToTunnel                    // from a port to another node
	PassFromTunnel                  // from another node to a port
	PassAnswered                    // turned into its own answer: ARP, echo to the router
	PassConsumed                    // ARP about the port's own address: heard, not answered
	PassUncounted                   // dropped, but the drop counters were full
	PassToService                   // from a port to the agent
	PassFromService                 // from the agent to a port
	passKinds
)

// String returns the kind as people see it.
func (k PassKind) String() string {
	names := [...]string{"local", "to-tunnel", "from-tunnel", "answered", "consumed", "uncounted", "to-service", "from-service"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("pass%d", uint32(k))
}

// PassCount is how much traffic of the node ended in one way, as on a real wire.
type PassCount struct {
	Kind           PassKind
	Packets, Bytes uint64
}

// Passes returns the counters of packets that were not dropped, one for each kind in order.
func (d *Datapath) Passes() ([]PassCount, error) {
	counts := make([]PassCount, passKinds)
	for kind := range passKinds {
		var values []bpfPassValue // one for each CPU
		if err := d.maps[bpfMapPassCount].Lookup(uint32(kind), &values); err != nil {
			return nil, fmt.Errorf("read pass counters: %w", err)
		}
		counts[kind].Kind = kind
		for _, v := range values {
			counts[kind].Packets += v.Packets
			counts[kind].Bytes += v.Bytes
		}
	}
	return counts, nil
}

// ReceiveKind says where packets came from.
type ReceiveKind uint32

// Where packets came from. The numbers are those of enum receive_kind.
const (
	ReceiveFromPort    ReceiveKind = iota // from a port's device
	ReceiveFromUplink                     // from the tunnel device
	ReceiveFromService                    // from the agent
	ReceiveFromHost                       // to a port's device, from the node's own stack
	receiveKinds
)

// String returns the kind as people see it.
func (k ReceiveKind) String() string {
	names := [...]string{"from-port", "from-uplink", "from-service", "from-host"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("receive%d", uint32(k))
}

// ReceiveCount is how much traffic the programs were given from one side.
type ReceiveCount struct {
	Kind           ReceiveKind
	Packets, Bytes uint64 // as on a real wire
	Frames         uint64 // as the kernel counts: a super-packet is one
}

// Receives returns what the programs were given, one count for each kind in order. All of it is in Passes or in Drops,
// once traffic has stopped: the sums of packets are equal.
func (d *Datapath) Receives() ([]ReceiveCount, error) {
	counts := make([]ReceiveCount, receiveKinds)
	for kind := range receiveKinds {
		var values []bpfReceiveValue // one for each CPU
		if err := d.maps[bpfMapReceiveCount].Lookup(uint32(kind), &values); err != nil {
			return nil, fmt.Errorf("read receive counters: %w", err)
		}
		counts[kind].Kind = kind
		for _, v := range values {
			counts[kind].Packets += v.Packets
			counts[kind].Bytes += v.Bytes
			counts[kind].Frames += v.Frames
		}
	}
	return counts, nil
}

// DeviceCount is what the kernel itself counts at a device of the packet path, in frames.
type DeviceCount struct {
	Name          string
	Rx, RxDropped uint64
	Tx, TxDropped uint64 // dropped: with errors of carrying
}

// Devices returns the kernel's counts of weft's own devices and of all that ports are attached to, in order of name.
func (d *Datapath) Devices() ([]DeviceCount, error) {
	names, err := d.AttachedPorts()
	if err != nil {
		return nil, err
	}
	var counts []DeviceCount
	for _, name := range append(names, uplinkName, serviceName) {
		l, err := device.ByName(name)
		if errors.Is(err, device.ErrNoDevice) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := l.Attrs().Statistics
		counts = append(counts, DeviceCount{
			Name: name, Rx: s.RxPackets, RxDropped: s.RxDropped + s.RxErrors, Tx: s.TxPackets, TxDropped: s.TxDropped + s.TxErrors,
		})
	}
	slices.SortFunc(counts, func(a, b DeviceCount) int { return cmp.Compare(a.Name, b.Name) })
	return counts, nil
}
