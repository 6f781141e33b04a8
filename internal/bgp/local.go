// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// State is what a speaker says of itself.
type State struct {
	Version  string         `json:"version"`
	PID      int            `json:"pid"`
	AS       uint32         `json:"as"`
	RouterID netip.Addr     `json:"routerID"`
	Since    time.Time      `json:"since"`
	Ready    bool           `json:"ready"`   // all neighbours have told all that they know, or were not waited for
	Drained  bool           `json:"drained"` // nothing is told to anybody
	Announce []netip.Prefix `json:"announce"`
	Peers    []PeerState    `json:"peers"`
	Routes   []RouteState   `json:"routes"`
	Writes   uint64         `json:"writes"` // to the kernel's table, since the start
}

// PeerState is a session.
type PeerState struct {
	Name     string     `json:"name,omitempty"`
	Address  netip.Addr `json:"address"`
	AS       uint32     `json:"as"`
	Relation Relation   `json:"relation"`
	Device   string     `json:"device"`
	Link     bool       `json:"link"` // is up
	State    string     `json:"state"`
	BFD      string     `json:"bfd,omitempty"`
	Received uint64     `json:"received"` // routes
	Since    time.Time  `json:"since,omitzero"`
}

// RouteState is a route in the kernel.
type RouteState struct {
	To netip.Prefix `json:"to"`
	By []string     `json:"by"` // gateway by device
}

// listen opens the socket of a speaker that is the only one to use it.
func listen(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("a speaker answers at %s already", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // a successor may have made it anew
	return l, nil
}

// configMost bounds a configuration, in bytes.
const configMost = 1 << 20

// serve answers at the local socket until ctx ends.
func (s *speaker) serve(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		var state *State
		err := s.call(r.Context(), func() (err error) {
			state, err = s.state(ctx)
			return err
		})
		reply(w, state, err)
	})
	mux.HandleFunc("PUT /config", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(io.LimitReader(r.Body, configMost))
		if err == nil {
			var cfg *Config
			if cfg, err = DecodeConfig(data); err == nil {
				err = s.call(r.Context(), func() error { return s.reconfigure(ctx, cfg) })
			}
		}
		reply(w, struct{}{}, err)
	})
	for word, drained := range map[string]bool{"POST /drain": true, "POST /resume": false} {
		mux.HandleFunc(word, func(w http.ResponseWriter, r *http.Request) {
			err := s.call(r.Context(), func() error {
				return s.peering.drain(ctx, drained)
			})
			reply(w, struct{}{}, err)
		})
	}
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(l); ctx.Err() == nil {
		s.Log.Error("the local socket", "err", err)
	}
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
}

// call runs do in the speaker's goroutine.
func (s *speaker) call(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	select {
	case s.do <- func() { done <- do() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *speaker) state(ctx context.Context) (*State, error) {
	st := &State{
		Version: s.Version, PID: os.Getpid(), AS: s.cfg.AS, RouterID: s.cfg.RouterID, Since: s.since, Ready: s.ready, Drained: s.peering.drained,
		Announce: slices.Clone(s.cfg.Announce), Peers: []PeerState{}, Routes: []RouteState{}, Writes: s.writes.Load(),
	}
	sessions := make(map[string]*api.Peer)
	if err := s.peering.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) { sessions[p.GetState().GetNeighborAddress()] = p }); err != nil {
		return nil, err
	}
	for _, p := range s.cfg.Peers {
		device := s.deviceOf(p.Address)
		ps := PeerState{Name: p.Name, Address: p.Address, AS: p.AS, Relation: p.Relation, Device: device, Link: !s.down[device], State: "idle"}
		if session := sessions[p.Address.String()]; session != nil {
			ps.State = word(session.GetState().GetSessionState().String(), "SESSION_STATE_")
			for _, f := range session.GetAfiSafis() {
				ps.Received += f.GetState().GetReceived()
			}
			if up := session.GetTimers().GetState().GetUptime(); up != nil && ps.State == "established" {
				ps.Since = up.AsTime()
			}
		}
		if p.BFD {
			ps.BFD = s.bfd.State(p.Address).String()
		}
		st.Peers = append(st.Peers, ps)
	}
	routes, err := s.table.Routes()
	if err != nil {
		return nil, err
	}
	for to, r := range routes {
		one := RouteState{To: to}
		for _, h := range r.By {
			one.By = append(one.By, h.Gateway.String()+" by "+h.Device)
		}
		st.Routes = append(st.Routes, one)
	}
	slices.SortFunc(st.Routes, func(a, b RouteState) int {
		if c := a.To.Addr().Compare(b.To.Addr()); c != 0 {
			return c
		}
		return a.To.Bits() - b.To.Bits()
	})
	return st, nil
}

// word is a value of the library's in a person's form.
func word(s, prefix string) string {
	return string(bytes.ToLower(bytes.TrimPrefix([]byte(s), []byte(prefix))))
}

// Client asks the speaker at a socket.
type Client struct{ http http.Client }

// NewClient returns a client of the speaker at the socket path.
func NewClient(path string) *Client {
	return &Client{http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// State asks how the speaker is.
func (c *Client) State(ctx context.Context) (*State, error) {
	s := &State{}
	return s, c.call(ctx, http.MethodGet, "/state", nil, s)
}

// Configure gives a running speaker a configuration.
func (c *Client) Configure(ctx context.Context, config []byte) error {
	return c.call(ctx, http.MethodPut, "/config", config, nil)
}

// Drain withdraws all that the speaker announces, or announces it again. Sessions and routes stay.
func (c *Client) Drain(ctx context.Context, drained bool) error {
	path := "/resume"
	if drained {
		path = "/drain"
	}
	return c.call(ctx, http.MethodPost, path, nil, nil)
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://bgp"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask the BGP speaker: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var e struct{ Error string }
		if err := json.NewDecoder(res.Body).Decode(&e); err != nil {
			return fmt.Errorf("ask the BGP speaker: %s", res.Status)
		}
		return errors.New(e.Error)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}
