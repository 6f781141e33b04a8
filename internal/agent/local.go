// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/internal/node/kernel/device"
	"weft/internal/node/port"
	"weft/internal/southbound"
)

// attachWithin is how long an attach may take from the claim to the packet path.
const attachWithin = 15 * time.Second

// listen serves the local socket until ctx ends; the channel receives the error that ends it early.
func (a *Agent) listen(ctx context.Context, wg *sync.WaitGroup) (<-chan error, error) {
	path := filepath.Join(a.cfg.RunDir, "agent.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open local socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/attach", handle(a.attach))
	mux.HandleFunc("POST /v1/detach", handle(a.detach))
	mux.HandleFunc("GET /v1/status", handle(func(ctx context.Context, _ struct{}) (v1.AgentStatus, error) { return a.status(ctx) }))
	mux.HandleFunc("GET /v1/dump/{function...}", func(w http.ResponseWriter, r *http.Request) {
		text, err := a.dump(r.Context(), r.PathValue("function"))
		reply(w, dumpAnswer{text}, err)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve local socket: %w", err)
		}
	})
	wg.Go(func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close()
		}
	})
	return failed, nil
}

// handle makes an HTTP handler of a function from request to answer.
func handle[In, Out any](f func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if r.Method == http.MethodPost {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil {
				reply(w, nil, &v1.Error{Status: http.StatusBadRequest, Code: v1.CodeMalformed, Message: err.Error()})
				return
			}
		}
		out, err := f(r.Context(), in)
		reply(w, out, err)
	}
}

// reply writes the answer, or the error as the API's own.
func reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := toAPIError(err)
		w.WriteHeader(e.Status)
		out = e
	}
	_ = json.NewEncoder(w).Encode(out) // the peer may be gone
}

// toAPIError finds the API's own error in err, whether it was made here or by the server.
func toAPIError(err error) *v1.Error {
	var e *v1.Error
	var refused *southbound.RefusedError
	var refusal *device.Refusal
	switch {
	case errors.As(err, &e):
	case errors.As(err, &refusal):
		e = &v1.Error{Status: http.StatusConflict, Code: v1.CodeConflict, Field: "device", Message: err.Error(), Fix: refusal.Fix}
	case errors.Is(err, device.ErrNoDevice):
		e = &v1.Error{
			Status: http.StatusNotFound, Code: v1.CodeNotFound, Field: "device", Message: err.Error(),
			Fix: "'ip link' lists the node's devices; a tap is made by --tap, a pair of devices by --veth",
		}
	case errors.As(err, &refused):
		e = &v1.Error{}
		if json.Unmarshal(refused.JSON, e) != nil || e.Code == "" || e.Message == "" {
			e = &v1.Error{Code: v1.CodeInternal, Message: refused.Text}
		}
	default:
		e = &v1.Error{Code: v1.CodeUnavailable, Message: err.Error(), Status: http.StatusServiceUnavailable}
	}
	if e.Status < 400 || e.Status > 599 { // none, or none of an error: a server said so
		e.Status = http.StatusInternalServerError
	}
	return e
}

// attach claims a port for this node and returns when the packet path has it. It can be repeated: a port that is attached
// already gets a new pair in the namespace named now, or keeps the tap or device.
func (a *Agent) attach(ctx context.Context, r v1.AttachRequest) (v1.Attachment, error) {
	wanted, err := toWanted(r)
	if err := errors.Join(err, a.member()); err != nil {
		return v1.Attachment{}, err
	}
	id := wanted.ID
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	select {
	case <-a.known: // a port whose row is on disk needs no server
	case <-ctx.Done():
		return v1.Attachment{}, ctx.Err()
	}
	var bound, existed bool
	if derr := a.do(ctx, func() {
		_, existed = a.ports.State(id)
		bound, err = a.ports.Attach(wanted)
	}); errors.Join(derr, err) != nil {
		return v1.Attachment{}, errors.Join(derr, err)
	}
	if !bound {
		if err := a.claim(ctx, id, r.Move); err != nil {
			if !existed {
				a.forget(id)
			}
			return v1.Attachment{}, err
		}
	}
	if err := a.do(ctx, a.settle); err != nil {
		return v1.Attachment{}, err
	}
	att, err := a.awaitReady(ctx, id)
	if err != nil && !existed {
		if _, derr := a.detach(context.WithoutCancel(ctx), v1.DetachRequest{Tenant: r.Tenant, Port: r.Port}); derr != nil {
			a.cfg.Log.Warn("undo attach", "port", id.String(), "err", derr)
		}
	}
	return att, err
}

// claim asks the server for the port and notes the binding.
func (a *Agent) claim(ctx context.Context, id port.ID, move bool) error {
	binding, err := a.client.Claim(ctx, id.Tenant, id.Port, move)
	if err != nil {
		return err
	}
	derr := a.do(ctx, func() { err = a.ports.Bind(id, binding) })
	return errors.Join(derr, err)
}

// forget removes an attachment that the server knows nothing of.
func (a *Agent) forget(id port.ID) {
	err := a.do(context.Background(), func() {
		if _, err := a.ports.Detach(id); err != nil {
			a.cfg.Log.Error("undo attach", "port", id.String(), "err", err)
		}
		a.settle()
	})
	if err != nil {
		a.cfg.Log.Debug("undo attach", "port", id.String(), "err", err)
	}
}

// awaitReady waits until the port is in the packet path.
func (a *Agent) awaitReady(ctx context.Context, id port.ID) (v1.Attachment, error) {
	for {
		a.mu.Lock()
		changed := a.changed
		a.mu.Unlock()
		var st port.State
		var ok bool
		if err := a.do(ctx, func() { st, ok = a.ports.State(id) }); err != nil && ctx.Err() == nil {
			return v1.Attachment{}, err
		}
		switch {
		case ok && st.Ready:
			return toAttachment(st), nil
		case ok && st.Err != nil:
			return v1.Attachment{}, &v1.Error{Status: 422, Code: v1.CodePrecondition, Object: id.String(), Message: st.Err.Error()}
		case !ok && ctx.Err() == nil:
			return v1.Attachment{}, &v1.Error{Status: 409, Code: v1.CodeConflict, Object: id.String(), Message: "the port was taken away while it was being attached", Fix: "somebody deleted or moved the port; look with 'weft get port " + id.String() + "'"}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v1.Attachment{}, &v1.Error{Status: 504, Code: v1.CodeTimeout, Object: id.String(), Message: "the server bound the port, but its row did not come within " + attachWithin.String(), Fix: "look at 'weft status' and at the agent's log"}
		}
	}
}

// detach removes a port's device and gives the port up.
func (a *Agent) detach(ctx context.Context, r v1.DetachRequest) (struct{}, error) {
	id := port.ID{Tenant: r.Tenant, Port: r.Port}
	var binding string
	var err error
	if derr := a.do(ctx, func() {
		binding, err = a.ports.Detach(id)
		a.settle()
	}); errors.Join(derr, err) != nil {
		return struct{}{}, errors.Join(derr, err)
	}
	if binding == "" {
		return struct{}{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	if err := a.client.Release(ctx, id.Tenant, id.Port, binding); err != nil {
		return struct{}{}, fmt.Errorf("the port is detached here; the server does not know yet and will learn it when the agent connects again: %w", err)
	}
	return struct{}{}, nil
}

// status tells how the agent is.
func (a *Agent) status(ctx context.Context) (v1.AgentStatus, error) {
	st := v1.AgentStatus{Node: a.cfg.Node, Version: a.cfg.Version, PID: os.Getpid(), Attachments: []v1.Attachment{}}
	if err := a.do(ctx, func() {
		for _, s := range a.ports.States() {
			st.Attachments = append(st.Attachments, toAttachment(s))
		}
		st.Writes = a.path.Writes()
	}); err != nil {
		return st, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	st.Connected, st.Synced, st.Revision, st.Rows = a.connected, a.synced && a.connected, a.revision, len(a.rows)
	st.Mended, st.Removed = a.mended, a.removed
	st.Certificate, st.Unproven = a.identity.State()
	for _, f := range a.failures {
		st.Errors = append(st.Errors, f.Key+": "+f.Message)
	}
	if wrong := a.speaker.wrong(); wrong != "" {
		st.Errors = append(st.Errors, "BGP speaker: "+wrong)
	}
	return st, nil
}

func toAttachment(s port.State) v1.Attachment {
	out := v1.Attachment{
		Tenant: s.ID.Tenant, Port: s.ID.Port, Way: string(s.Way), NetNS: s.NetNS, Device: s.Device, HostDevice: s.HostDevice(),
		Binding: s.Binding, Addresses: s.Addresses, MTU: s.MTU, Made: s.Made, Ready: s.Ready,
	}
	if s.MAC != (southbound.MAC{}) {
		out.MAC = s.MAC.String()
	}
	if s.Err != nil {
		out.Error = s.Err.Error()
	}
	return out
}
