// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	v1 "weft/api/v1"
)

// Agent speaks to a node's agent on its local socket. Who may open the socket (root) may attach ports.
type Agent struct {
	socket string
	http   *http.Client
}

// NewAgent returns a client of the agent that listens at the path socket, usually /run/weft/agent.sock.
func NewAgent(socket string) *Agent {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Agent{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Attach attaches a port and returns when the packet path has it.
func (a *Agent) Attach(ctx context.Context, r v1.AttachRequest) (*v1.Attachment, error) {
	var out v1.Attachment
	return &out, a.call(ctx, http.MethodPost, "/v1/attach", r, &out)
}

// Detach detaches a port; one that is not attached is fine.
func (a *Agent) Detach(ctx context.Context, r v1.DetachRequest) error {
	return a.call(ctx, http.MethodPost, "/v1/detach", r, nil)
}

// Status returns how the agent is.
func (a *Agent) Status(ctx context.Context) (*v1.AgentStatus, error) {
	var out v1.AgentStatus
	return &out, a.call(ctx, http.MethodGet, "/v1/status", nil, &out)
}

// Dump returns a table of the node as text; "" lists the tables.
func (a *Agent) Dump(ctx context.Context, function string) (string, error) {
	var out struct {
		Text string `json:"text"`
	}
	err := a.call(ctx, http.MethodGet, "/v1/dump/"+url.PathEscape(function), nil, &out)
	return out.Text, err
}

// call makes one request. Errors of the agent and of the server behind it are *v1.Error.
func (a *Agent) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return &v1.Error{
			Status: http.StatusServiceUnavailable, Code: v1.CodeUnavailable,
			Message: fmt.Sprintf("no agent answers at %s: %v", a.socket, err),
			Fix:     "start the agent (weft agent), or name the node's socket with --socket or --node",
		}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read answer of the agent: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		e := &v1.Error{}
		if json.Unmarshal(data, e) != nil || e.Code == "" {
			e = &v1.Error{Code: v1.CodeInternal, Message: fmt.Sprintf("agent answered %s: %s", resp.Status, data)}
		}
		e.Status = resp.StatusCode
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("decode answer of the agent: %w", err)
	}
	return nil
}
