// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	v1 "weft/api/v1"
	"weft/internal/apiserver/admission"
	"weft/internal/audit"
	"weft/internal/base/clock"
	"weft/internal/store"
)

// RegisterNode makes the node what it says of itself: created at its first hello, its address and roles followed later.
// Labels, being drained, and a site that the node does not know, stay what users wrote. A machine that was removed is refused, and
// so is another one under the name of a node: a machine that takes a node's place was written down as it was enrolled.
func (s *Server) RegisterNode(ctx context.Context, n v1.Node) (*v1.Node, error) {
	var action v1.Action
	machine := n.Status.Machine
	_, err := s.cfg.Store.Update(ctx, []string{"", store.NodeScope(n.Name)}, func(tx *store.Tx) error {
		doc := v1.Clone(&n)
		doc.ResourceVersion = ""
		if found, ok := tx.Get(v1.KindNode, "", n.Name); ok {
			old := found.(*v1.Node)
			doc.Labels, doc.Spec.Site, doc.Spec.Drained = old.Labels, cmp.Or(n.Spec.Site, old.Spec.Site), old.Spec.Drained
			if was := old.Status.Machine; was != "" && machine != "" && was != machine {
				return admission.Refuse(old, http.StatusConflict, v1.CodeInUse, "metadata.name", "give each machine a name of its own (weft node join --name)",
					"another machine is this node")
			}
		}
		if machine != "" && tx.Counter(RemovedCounter(machine)) > 0 {
			return RemovedError(n.Name)
		}
		a := admission.New(tx, clock.Now().UTC().Truncate(time.Second), true)
		item, err := a.Put(doc)
		if err != nil {
			return err
		}
		action = item.Action
		if stored, _ := tx.Get(v1.KindNode, "", n.Name); machine != "" && stored.(*v1.Node).Status.Machine != machine {
			node := v1.Clone(stored.(*v1.Node))
			node.Status.Machine = machine
			tx.Put(node)
		}
		return a.Settle()
	})
	if action != v1.ActionUnchanged || err != nil {
		s.note(ctx, outcome(audit.Record{Principal: "node:" + n.Name, Operation: "register", Object: v1.ID(&n), Detail: map[string]any{"address": n.Spec.Address}}, string(action), err))
	}
	if err != nil {
		return nil, err
	}
	stored, ok := s.cfg.Store.View().Get(v1.KindNode, "", n.Name)
	if !ok {
		return nil, notFound(v1.KindNode, "", n.Name)
	}
	return v1.Clone(stored.(*v1.Node)), nil
}

// Member reports with an error that a node is none any more.
func (s *Server) Member(node string) error {
	if _, ok := s.cfg.Store.View().Get(v1.KindNode, "", node); !ok {
		return RemovedError(node)
	}
	return nil
}

// RemovedCounter is above 0 where a machine was removed: it is not to come back by itself.
func RemovedCounter(machine string) string { return "removed/" + machine }

// RemovedError is the refusal of a machine that was removed.
func RemovedError(node string) error {
	return &v1.Error{
		Status: http.StatusConflict, Code: v1.CodeNodeRemoved, Object: "node/" + node, Message: "the node was removed from the system",
		Fix: "if it is to be a node again, join it: 'weft node token' tells how",
	}
}

// Claim binds a port to a node. A node that claims a port again keeps the binding; a port that another node has is given
// only with move.
func (s *Server) Claim(ctx context.Context, node, tenant, port string, move bool) (binding string, err error) {
	changed := false
	_, err = s.cfg.Store.Update(ctx, []string{tenant, store.NodeScope(node)}, func(tx *store.Tx) error {
		changed = false
		at, ok := tx.Get(v1.KindNode, "", node)
		if !ok {
			return notFound(v1.KindNode, "", node)
		}
		found, ok := tx.Get(v1.KindPort, tenant, port)
		if !ok {
			return notFound(v1.KindPort, tenant, port)
		}
		p := found.(*v1.Port)
		switch {
		case p.Spec.Node != "" && p.Spec.Node != node:
			return admission.Refuse(p, http.StatusConflict, v1.CodeWrongNode, "spec.node", fmt.Sprintf("attach it on node %s, or change spec.node", p.Spec.Node),
				"the port may be attached at node %s only", p.Spec.Node)
		case p.Status.Node == node && p.Status.Binding != "":
			binding = p.Status.Binding
			return nil
		case at.(*v1.Node).Spec.Drained:
			return admission.Refuse(p, http.StatusConflict, v1.CodeNodeDrained, "", "attach it at another node, or let this one take ports again: weft node resume "+node,
				"node %s is drained: it takes no further ports", node)
		case p.Status.Node != "" && !move:
			return admission.Refuse(p, http.StatusConflict, v1.CodeBindingTaken, "", fmt.Sprintf("detach it at node %s, or take it with --move", p.Status.Node),
				"the port is attached at node %s", p.Status.Node)
		}
		p = v1.Clone(p)
		binding = uuid.NewString()
		p.Status.Node, p.Status.Binding = node, binding
		tx.Put(p)
		changed = true
		return nil
	})
	if changed || err != nil {
		s.note(ctx, outcome(audit.Record{Principal: "node:" + node, Operation: "claim", Tenant: tenant, Object: tenant + "/port/" + port}, "done", err))
	}
	return binding, err
}

// Release gives a binding up; one that is no longer the port's is fine, and so is a port that is gone.
func (s *Server) Release(ctx context.Context, node, tenant, port, binding string) error {
	changed := false
	_, err := s.cfg.Store.Update(ctx, []string{tenant}, func(tx *store.Tx) error {
		changed = false
		found, ok := tx.Get(v1.KindPort, tenant, port)
		if !ok {
			return nil
		}
		p := found.(*v1.Port)
		if p.Status.Node != node || p.Status.Binding != binding {
			return nil
		}
		p = v1.Clone(p)
		p.Status.Node, p.Status.Binding = "", ""
		tx.Put(p)
		changed = true
		return nil
	})
	if changed || err != nil {
		s.note(ctx, outcome(audit.Record{Principal: "node:" + node, Operation: "release", Tenant: tenant, Object: tenant + "/port/" + port}, "done", err))
	}
	return err
}
