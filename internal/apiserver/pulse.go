// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"strconv"

	v1 "weft/api/v1"
	"weft/internal/identity"
	"weft/internal/store"
)

// pulse finds, for one watch, resources whose live status changed without a write: nodes acknowledged, came or went.
type pulse struct {
	s       *Server
	who     identity.Principal
	kind    v1.Kind
	tenant  string
	version uint64            // of the live status when it was last looked at
	last    map[string]string // live status by resource, as last told
}

func (s *Server) newPulse(who identity.Principal, kind v1.Kind, tenant string) *pulse {
	p := &pulse{s: s, who: who, kind: kind, tenant: tenant, last: make(map[string]string)}
	p.changes(0)
	return p
}

// note takes over what an event told.
func (p *pulse) note(e store.Event) {
	switch {
	case e.Object == nil && e.Old != nil:
		delete(p.last, v1.ID(e.Old))
	case e.Object != nil && e.Object.GetKind() == p.kind && (p.tenant == "" || e.Object.Meta().Tenant == p.tenant):
		p.last[v1.ID(e.Object)] = p.s.liveText(e.Object)
	}
}

// changes returns an event for each resource whose live status is not what was last told. Where nothing happened on any
// node it costs one comparison.
func (p *pulse) changes(since int64) []v1.Event {
	version := p.s.cfg.Live.Version()
	if version == p.version {
		return nil
	}
	p.version = version
	var out []v1.Event
	for _, o := range p.s.cfg.Store.View().List(p.kind, p.tenant) {
		if !visible(p.who, o) {
			continue
		}
		id, text := v1.ID(o), p.s.liveText(o)
		before, known := p.last[id]
		p.last[id] = text
		if !known || before == text {
			continue // unknown: its own event tells it
		}
		body, err := p.s.filled(o)
		if err != nil {
			p.s.cfg.Log.Error("encode event", "err", err)
			continue
		}
		out = append(out, v1.Event{Type: v1.EventModified, ResourceVersion: strconv.FormatInt(since, 10), Object: body})
	}
	return out
}

// liveText is the live part of a resource's status that people watch for.
func (s *Server) liveText(o v1.Object) string {
	c := v1.Clone(o)
	s.cfg.Live.Fill(c)
	switch c := c.(type) {
	case *v1.Node:
		return c.Status.State
	case *v1.VPC:
		return fmt.Sprint(c.Status.Applied)
	case *v1.Subnet:
		return fmt.Sprint(c.Status.Applied)
	case *v1.RouteTable:
		return fmt.Sprint(c.Status.Applied)
	case *v1.Port:
		return fmt.Sprint(c.Status.Applied, c.Status.State)
	}
	return ""
}
