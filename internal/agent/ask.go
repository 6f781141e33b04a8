// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/node/probe"
	"weft/internal/node/reconcile"
	"weft/internal/southbound"
)

// prober runs the workloads of weft check.
type prober interface {
	Handle(ctx context.Context, request json.RawMessage) (json.RawMessage, error)
	Close() error
}

// newProber lets weft check attach its own workloads as anybody would, through the local socket's functions.
func newProber(a *Agent) prober {
	return probe.New(probe.Config{
		Prefix: filepath.Base(a.cfg.RunDir) + "-check-", // apart from other agents on this machine, as in a lab
		Attach: func(ctx context.Context, tenant, port, netns string) error {
			_, err := a.attach(ctx, v1.AttachRequest{Tenant: tenant, Port: port, NetNS: netns, Static: true})
			return err
		},
		Detach: func(ctx context.Context, tenant, port string) error {
			_, err := a.detach(ctx, v1.DetachRequest{Tenant: tenant, Port: port})
			return err
		},
		Drops:  a.tenantDrops,
		Tunnel: a.cfg.Address,
		Log:    a.cfg.Log,
	})
}

// tenantDrops counts what was dropped of a tenant that has a VPC here; where none is named, of no tenant.
func (a *Agent) tenantDrops(tenant string) (map[string]uint64, error) {
	var number uint32
	if tenant != "" {
		a.mu.Lock()
		for k, row := range a.rows {
			if vpc, ok := row.(southbound.VPC); ok && k.Table == southbound.TableVPC && vpc.Tenant == tenant {
				number = vpc.TenantNumber
			}
		}
		a.mu.Unlock()
		if number == 0 {
			return nil, fmt.Errorf("no VPC of tenant %s is on this node", tenant)
		}
	}
	counts, err := a.path.TenantDrops(number)
	out := make(map[string]uint64, len(counts))
	for reason, n := range counts {
		out[reason.String()] = n
	}
	return out, err
}

// dumpAnswer is a table as text.
type dumpAnswer struct {
	Text string `json:"text"`
}

// DropCount is one drop counter as the server gets it: tenants by number, for the server knows their names.
type DropCount struct {
	Tenant  uint32 `json:"tenant"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Meaning string `json:"meaning"`
}

// Ask answers an operator's question (southbound.Node): "dump", "drops", "status" or "probe".
func (a *Agent) Ask(ctx context.Context, what string, argument json.RawMessage) (json.RawMessage, error) {
	var out any
	var err error
	switch what {
	case "dump":
		var in struct {
			Function string `json:"function"`
		}
		if len(argument) > 0 {
			if err := json.Unmarshal(argument, &in); err != nil {
				return nil, fmt.Errorf("read question: %w", err)
			}
		}
		var text string
		text, err = a.dump(ctx, in.Function)
		out = dumpAnswer{text}
	case "drops":
		out, err = a.drops()
	case "status":
		out, err = a.status(ctx)
	case "probe":
		return a.prober.Handle(ctx, argument)
	default:
		return nil, fmt.Errorf("unknown question %q", what)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// drops reads the drop counters.
func (a *Agent) drops() ([]DropCount, error) {
	counts, err := a.path.Drops()
	if err != nil {
		return nil, fmt.Errorf("read drop counters: %w", err)
	}
	out := make([]DropCount, 0, len(counts))
	for _, c := range counts {
		out = append(out, DropCount{c.Tenant, c.Reason.String(), c.Packets, c.Bytes, c.Reason.Meaning()})
	}
	return out, nil
}

// dump returns one table as text, a line an entry, sorted; "" lists the tables.
func (a *Agent) dump(ctx context.Context, function string) (string, error) {
	tables := map[string]func(context.Context) ([]string, error){
		"rows":        a.dumpRows,
		"attachments": a.dumpAttachments,
		"port":        func(context.Context) ([]string, error) { return lines(a.path.Ports())(portLine) },
		"location":    func(context.Context) ([]string, error) { return lines(a.path.Locations())(locationLine) },
		"sender":      func(context.Context) ([]string, error) { return lines(a.path.Senders())(senderLine) },
		"drop":        a.dumpDrops,
		"pass":        a.dumpPasses,
		"account":     a.dumpAccount,
		"route":       func(context.Context) ([]string, error) { return lines(a.path.Routes())(routeLine) },
		"source":      func(context.Context) ([]string, error) { return lines(a.path.Sources())(sourceLine) },
		"dhcp":        func(context.Context) ([]string, error) { return a.dhcp.Dump(), nil },
	}
	names := slices.Sorted(maps.Keys(tables))
	if function == "" {
		return strings.Join(names, "\n") + "\n", nil
	}
	table, ok := tables[function]
	if !ok {
		return "", &v1.Error{
			Status: 404, Code: v1.CodeNotFound, Message: fmt.Sprintf("there is no table %q", function),
			Fix: "the tables are " + strings.Join(names, ", "),
		}
	}
	out, err := table(ctx)
	if err != nil {
		return "", fmt.Errorf("dump %s: %w", function, err)
	}
	slices.Sort(out)
	return strings.Join(append(out, ""), "\n"), nil
}

// lines reads a kernel table and writes a line for each entry.
func lines[K, V comparable](table reconcile.Target[K, V]) func(line func(K, V) string) ([]string, error) {
	return func(line func(K, V) string) ([]string, error) {
		all, err := table.All()
		var out []string
		for k, v := range all {
			out = append(out, line(k, v))
		}
		return out, err
	}
}

func portLine(k kernel.PortKey, v kernel.Port) string {
	s := fmt.Sprintf("ifindex=%d vni=%d tenant=%d subnet=%d mtu=%d mac=%s", k.IfIndex, v.VNI, v.Tenant, v.Subnet, v.MTU, southbound.MAC(v.MAC))
	for _, f := range []struct{ address, router netip.Addr }{{v.Addr4, v.Router4}, {v.Addr6, v.Router6}} {
		if f.address.IsValid() {
			s += fmt.Sprintf(" address=%s router=%s", f.address, f.router)
		}
	}
	if v.Table != 0 {
		s += fmt.Sprintf(" table=%d", v.Table)
	}
	if v.Sources {
		s += " sources=yes"
	}
	return s
}

func locationLine(k kernel.LocationKey, v kernel.Location) string {
	s := fmt.Sprintf("vni=%d address=%s kind=%s subnet=%d mac=%s", k.VNI, k.Addr, v.Kind, v.Subnet, southbound.MAC(v.MAC))
	switch v.Kind {
	case kernel.LocationRemote:
		s += fmt.Sprintf(" node=%d tunnel=%s", v.Node, v.Tunnel)
	case kernel.LocationPeer, kernel.LocationDevice:
		s += fmt.Sprintf(" node=%d ifindex=%d", v.Node, v.IfIndex)
	}
	return s
}

func routeLine(k kernel.RouteKey, v kernel.Location) string {
	s := fmt.Sprintf("vni=%d table=%d prefix=%s kind=%s", k.VNI, k.Table, k.Prefix, v.Kind)
	switch v.Kind {
	case kernel.LocationRemote:
		s += fmt.Sprintf(" mac=%s node=%d tunnel=%s", southbound.MAC(v.MAC), v.Node, v.Tunnel)
	case kernel.LocationPeer, kernel.LocationDevice:
		s += fmt.Sprintf(" mac=%s node=%d ifindex=%d", southbound.MAC(v.MAC), v.Node, v.IfIndex)
	}
	return s
}

func sourceLine(k kernel.SourceKey, _ kernel.Source) string {
	return fmt.Sprintf("ifindex=%d prefix=%s", k.IfIndex, k.Prefix)
}

func senderLine(k kernel.SenderKey, v kernel.Sender) string {
	return fmt.Sprintf("vni=%d address=%s tenant=%d node=%d", k.VNI, k.Addr, v.Tenant, v.Node)
}

func (a *Agent) dumpRows(context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(a.rows), southbound.Key.Compare)
	var out []string
	for _, k := range keys {
		out = append(out, a.rows[k].String())
	}
	return out, nil
}

func (a *Agent) dumpAttachments(ctx context.Context) ([]string, error) {
	var out []string
	err := a.do(ctx, func() {
		for _, s := range a.ports.States() {
			out = append(out, fmt.Sprintf("%s way=%s device=%s netns=%s peer=%s binding=%s ready=%v",
				s.ID, s.Way, s.HostDevice(), s.NetNS, peerOf(s), s.Binding, s.Ready))
		}
	})
	return out, err
}

func (a *Agent) dumpDrops(context.Context) ([]string, error) {
	counts, err := a.path.Drops()
	var out []string
	for _, c := range counts {
		out = append(out, fmt.Sprintf("tenant=%d reason=%s packets=%d bytes=%d", c.Tenant, c.Reason, c.Packets, c.Bytes))
	}
	return out, err
}

func (a *Agent) dumpPasses(context.Context) ([]string, error) {
	counts, err := a.path.Passes()
	var out []string
	for _, c := range counts {
		out = append(out, fmt.Sprintf("kind=%s packets=%d bytes=%d", c.Kind, c.Packets, c.Bytes))
	}
	return out, err
}

// dumpAccount is what the programs were given beside what became of it, and what the kernel itself counts at the devices.
// Once traffic has stopped, the packets given are those passed and dropped.
func (a *Agent) dumpAccount(context.Context) ([]string, error) {
	receives, err1 := a.path.Receives()
	passes, err2 := a.path.Passes()
	drops, err3 := a.path.Drops()
	devices, err4 := a.path.Devices()
	var out []string
	for _, c := range receives {
		out = append(out, fmt.Sprintf("given side=%s packets=%d bytes=%d frames=%d", c.Kind, c.Packets, c.Bytes, c.Frames))
	}
	for _, c := range passes {
		out = append(out, fmt.Sprintf("passed way=%s packets=%d bytes=%d", c.Kind, c.Packets, c.Bytes))
	}
	byReason := make(map[string]kernel.DropCount)
	for _, c := range drops {
		sum := byReason[c.Reason.String()]
		sum.Packets, sum.Bytes = sum.Packets+c.Packets, sum.Bytes+c.Bytes
		byReason[c.Reason.String()] = sum
	}
	for reason, c := range byReason {
		out = append(out, fmt.Sprintf("dropped reason=%s packets=%d bytes=%d", reason, c.Packets, c.Bytes))
	}
	for _, d := range devices {
		out = append(out, fmt.Sprintf("kernel device=%s rx=%d rx-dropped=%d tx=%d tx-dropped=%d", d.Name, d.Rx, d.RxDropped, d.Tx, d.TxDropped))
	}
	return out, errors.Join(err1, err2, err3, err4)
}

// devices is the kernel as the port function sees it.
type devices struct{ *kernel.Datapath }

func (devices) FindLink(name string) (device.Link, bool, error) { return device.FindLink(name) }
func (devices) Links(prefix string) ([]device.Link, error)      { return device.Links(prefix) }
func (devices) CreateVeth(v device.Veth) (int, error)           { return device.CreateVeth(v) }
func (devices) MendVeth(v device.Veth) error                    { return device.MendVeth(v) }
func (devices) DeleteLink(name string) error                    { return device.DeleteLink(name) }
func (devices) SetDown(name string) error                       { return device.SetDown(name) }

func (devices) CreateTap(t device.Tap) (int, error)  { return device.CreateTap(t) }
func (devices) CheckDevice(c device.Candidate) error { return device.Check(c) }

func (devices) ConfigurePeer(netNS, name string, addresses []netip.Prefix, gateways []netip.Addr, mtu int) error {
	return device.ConfigurePeer(netNS, name, addresses, gateways, mtu)
}

func (devices) InspectDevice(name string) (device.Before, error) { return device.Inspect(name) }

func (devices) ReturnDevice(name string, b device.Before) error { return device.Return(name, b) }
