// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Step is frames that a workload sends in one go, and how many drops they must lead to.
type Step struct {
	Frames [][]byte `json:"frames"` // from the destination MAC on
	Drops  uint64   `json:"drops,omitempty"`
}

// Outcome is what the node counted meanwhile.
type Outcome struct {
	Drops map[string]uint64 `json:"drops,omitempty"` // packets of the workload's tenant by reason
}

// Bounds of a volley.
const (
	jumboMost   = 9216 // MTU of a workload that sends longer frames than its own allows
	countWithin = 300 * time.Millisecond
	countEvery  = 200 * time.Microsecond
)

// volley sends the frames of each step and reads the node's drop counters after it. The counters are read here, beside
// the packet path, and one step after the other, so each drop belongs to the step that caused it: within a tenant and a node only
// one volley may run at a time, which the caller sees to.
func (p *Prober) volley(ctx context.Context, w *workload, steps []Step) (out []Outcome, err error) {
	var all [][]byte
	for _, s := range steps {
		all = append(all, s.Frames...)
	}
	g, err := openGun(w.ns, all)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	before, err := p.cfg.Drops(w.tenant)
	if err != nil {
		return nil, err
	}
	for i, s := range steps {
		for _, f := range s.Frames {
			if err := g.send(f); err != nil {
				return nil, fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		after, err := p.countedUp(ctx, w.tenant, before, s.Drops)
		if err != nil {
			return nil, err
		}
		out = append(out, Outcome{difference(before, after)})
		before = after
	}
	return out, nil
}

// countedUp reads the counters, and reads them again until they have grown by as much as is expected or it takes too long.
func (p *Prober) countedUp(ctx context.Context, tenant string, before map[string]uint64, drops uint64) (map[string]uint64, error) {
	for deadline := time.Now().Add(countWithin); ; {
		after, err := p.cfg.Drops(tenant)
		if err != nil {
			return nil, err
		}
		var grown uint64
		for _, n := range difference(before, after) {
			grown += n
		}
		if grown >= drops || time.Now().After(deadline) {
			return after, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(countEvery):
		}
	}
}

func difference(before, after map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64)
	for reason, n := range after {
		if n > before[reason] {
			out[reason] = n - before[reason]
		}
	}
	return out
}

// gun sends whole frames from a workload's device.
type gun struct {
	ns    string
	fd    int
	index int
	mtu   int // to go back to; 0: it was not changed
}

// openGun opens a gun for these frames. Where one is longer than the device's MTU allows, it makes that larger, as the
// workload itself could.
func openGun(ns string, frames [][]byte) (*gun, error) {
	longest := 0
	for _, f := range frames {
		if len(f) < etherHeader {
			return nil, errors.New("a frame has no Ethernet header")
		}
		longest = max(longest, len(f))
	}
	fd, index, err := sendSocket(ns)
	if err != nil {
		return nil, err
	}
	g := &gun{ns: ns, fd: fd, index: index}
	mtu, err := mtuOf(ns)
	if err == nil && longest > mtu+etherHeader {
		g.mtu = mtu
		err = setMTU(ns, jumboMost)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// send sends one frame; when the device's queue is full, again.
func (g *gun) send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: g.index, Halen: 6, Addr: [8]byte(append(frame[:6:6], 0, 0))}
	for range 100 {
		err := unix.Sendto(g.fd, frame, 0, to)
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return err
		}
		time.Sleep(countEvery)
	}
	return unix.ENOBUFS
}

func (g *gun) close() error {
	err := unix.Close(g.fd)
	if g.mtu > 0 {
		err = errors.Join(err, setMTU(g.ns, g.mtu))
	}
	return err
}

// vxlanPort is the tunnel's, of every node.
const vxlanPort = 4789

// tunnel sends frames to a node's tunnel end as any process of this node can, in a tunnel header of its own making. The
// packet's sender is this node, but not its tunnel end; only to the own tunnel end it is that one, which no node takes packets from.
func (p *Prober) tunnel(r Request) error {
	to, err := netip.ParseAddr(r.To)
	if err != nil {
		return err
	}
	from := to
	if to != p.cfg.Tunnel {
		if from, err = otherAddress(p.cfg.Tunnel); err != nil {
			return err
		}
	}
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, vxlanPort)))
	if err != nil {
		return err
	}
	defer conn.Close()
	header := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, r.VNI<<8)
	for _, f := range r.Frames {
		if _, err := conn.Write(append(header[:8:8], f...)); err != nil {
			return err
		}
	}
	return nil
}

// errNoOtherAddress: what has only its tunnel end cannot speak in another name.
var errNoOtherAddress = errors.New("the node has no address beside its tunnel end")

// otherAddress is one of the node's, of the tunnel end's IP version.
func otherAddress(tunnel netip.Addr) (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is4() == tunnel.Is4() && p.Addr() != tunnel {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errNoOtherAddress
}
