// SPDX-License-Identifier: Apache-2.0

// Package client speaks to a weft server, and to the agent of the node it runs on. Every error that a server, an agent
// or the way to them causes is a *v1.Error, so that it has a code, and a sentence that says how to mend it.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
)

// Bounds of a request.
const (
	dialWithin   = 5 * time.Second
	answerWithin = 60 * time.Second // until the first byte of the answer
	patience     = 30 * time.Second // with a server that has no time
	answerMost   = 1 << 30          // bytes of one answer: a list of 100,000 ports has about 100 MB
)

// Config says where a server is. Server and Token are required.
type Config struct {
	Server string // such as https://127.0.0.1:7443
	Token  string
	CA     []byte // PEM of the authority that signed the server's certificate; nil: those that the machine trusts
}

// Client speaks to one server. It may be used by several goroutines at once.
type Client struct {
	server *url.URL
	token  string
	http   *http.Client
}

// New returns a client. It does not connect yet.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Server)
	if err != nil || u.Host == "" || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, &v1.Error{
			Status: http.StatusBadRequest, Code: v1.CodeInvalid, Field: "server", Message: fmt.Sprintf("%q is not the address of a server", cfg.Server),
			Fix: "write https, host and port, for example https://127.0.0.1:7443; without TLS, others could read the token",
		}
	}
	if cfg.Token == "" {
		return nil, &v1.Error{
			Status: http.StatusUnauthorized, Code: v1.CodeRequired, Field: "token", Message: "there is no token for " + cfg.Server,
			Fix: "name one in the context, or take admin.token from the server's state directory",
		}
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS13, Time: clock.Now}
	if len(cfg.CA) > 0 {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, &v1.Error{
				Status: http.StatusBadRequest, Code: v1.CodeInvalid, Field: "ca", Message: "no certificate can be read from the authority's PEM",
				Fix: "use ca.pem from the server's state directory",
			}
		}
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, TLSHandshakeTimeout: dialWithin,
		DialContext: (&net.Dialer{Timeout: dialWithin}).DialContext, ResponseHeaderTimeout: answerWithin, IdleConnTimeout: answerWithin,
	}
	return &Client{server: u, token: cfg.Token, http: &http.Client{Transport: t}}, nil
}

// Get returns one resource. The tenant is "" for kinds of the cluster.
func (c *Client) Get(ctx context.Context, kind v1.Kind, tenant, name string) (v1.Object, error) {
	path, err := onePath(kind, tenant, name)
	if err != nil {
		return nil, err
	}
	o, _ := v1.New(kind)
	if err := c.call(ctx, http.MethodGet, path, nil, nil, o); err != nil {
		return nil, err
	}
	return o, nil
}

// List returns the resources of a kind, ordered by tenant and name, and the version of the store that they show. The
// tenant "" means all tenants.
func (c *Client) List(ctx context.Context, kind v1.Kind, tenant string) (objects []v1.Object, resourceVersion string, err error) {
	path, err := listPath(kind, tenant)
	if err != nil {
		return nil, "", err
	}
	var list v1.List
	if err := c.call(ctx, http.MethodGet, path, nil, nil, &list); err != nil {
		return nil, "", err
	}
	objects = make([]v1.Object, 0, len(list.Items))
	for _, raw := range list.Items {
		o, err := decode(kind, raw)
		if err != nil {
			return nil, "", err
		}
		objects = append(objects, o)
	}
	return objects, list.ResourceVersion, nil
}

// decode reads a resource from an answer. Fields that a newer server has are left out.
func decode(kind v1.Kind, raw []byte) (v1.Object, error) {
	o, ok := v1.New(kind)
	if !ok {
		return nil, unknownKind(kind)
	}
	if err := json.Unmarshal(raw, o); err != nil {
		return nil, unreadable(err)
	}
	return o, nil
}

// DeleteOptions says how to delete.
type DeleteOptions struct {
	Cascade bool // what uses the resource, too
	DryRun  bool // say what would go, delete nothing
}

// Delete deletes a resource and says what went.
func (c *Client) Delete(ctx context.Context, kind v1.Kind, tenant, name string, opt DeleteOptions) (*v1.Result, error) {
	path, err := onePath(kind, tenant, name)
	if err != nil {
		return nil, err
	}
	q := url.Values{}
	if opt.Cascade {
		q.Set("cascade", "true")
	}
	if opt.DryRun {
		q.Set("dryRun", "true")
	}
	var out v1.Result
	if err := c.call(ctx, http.MethodDelete, path, q, nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Status returns how the system is.
func (c *Client) Status(ctx context.Context) (*v1.ClusterStatus, error) {
	var out v1.ClusterStatus
	if err := c.call(ctx, http.MethodGet, "/api/v1/status", nil, nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Join makes a join token and returns what a machine needs to become a node by it.
func (c *Client) Join(ctx context.Context, r v1.JoinRequest) (*v1.Join, error) {
	var out v1.Join
	return &out, c.call(ctx, http.MethodPost, "/api/v1/join", nil, r, &out)
}

// JoinTokens lists the join tokens, the newest first.
func (c *Client) JoinTokens(ctx context.Context) ([]v1.JoinToken, error) {
	var out v1.JoinTokens
	err := c.call(ctx, http.MethodGet, "/api/v1/join/tokens", nil, nil, &out)
	return out.Items, err
}

// RevokeJoinToken ends a join token. Nodes that were enrolled by it stay.
func (c *Client) RevokeJoinToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/join/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// Whoami returns who the client's token is taken for.
func (c *Client) Whoami(ctx context.Context) (*v1.Whoami, error) {
	var out v1.Whoami
	return &out, c.call(ctx, http.MethodGet, "/api/v1/whoami", nil, nil, &out)
}

// CreateToken makes a token. Its secret is told this once.
func (c *Client) CreateToken(ctx context.Context, r v1.TokenRequest) (*v1.Token, error) {
	var out v1.Token
	return &out, c.call(ctx, http.MethodPost, "/api/v1/tokens", nil, r, &out)
}

// Tokens lists the tokens of a tenant, or all that one may know of for "".
func (c *Client) Tokens(ctx context.Context, tenant string) ([]v1.Token, error) {
	q := url.Values{}
	if tenant != "" {
		q.Set("tenant", tenant)
	}
	var out v1.Tokens
	err := c.call(ctx, http.MethodGet, "/api/v1/tokens", q, nil, &out)
	return out.Items, err
}

// RevokeToken ends a token at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// AuditQuery says which records of the audit log are wanted. What is empty wants all.
type AuditQuery struct {
	Tenant, Principal, Operation, Object string
	Since, Until                         time.Time
	After                                uint64 // behind the record with this sequence
	Failed                               bool
	Limit                                int // the last so many; 0: the server's choice
}

// Audit returns records of the audit log as JSON, the oldest first.
func (c *Client) Audit(ctx context.Context, want AuditQuery) ([]json.RawMessage, error) {
	q := url.Values{}
	for name, value := range map[string]string{"tenant": want.Tenant, "principal": want.Principal, "operation": want.Operation, "object": want.Object} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": want.Since, "until": want.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	if want.After > 0 {
		q.Set("after", strconv.FormatUint(want.After, 10))
	}
	if want.Failed {
		q.Set("failed", "true")
	}
	if want.Limit > 0 {
		q.Set("limit", strconv.Itoa(want.Limit))
	}
	var out v1.AuditRecords
	err := c.call(ctx, http.MethodGet, "/api/v1/audit", q, nil, &out)
	return out.Items, err
}

// Drops returns the drop counters of a tenant, "" for all, and a sentence for each node that did not answer.
func (c *Client) Drops(ctx context.Context, tenant string) (drops []v1.Drop, warnings []string, err error) {
	q := url.Values{}
	if tenant != "" {
		q.Set("tenant", tenant)
	}
	var out struct {
		Items    []v1.Drop `json:"items"`
		Warnings []string  `json:"warnings"`
	}
	err = c.call(ctx, http.MethodGet, "/api/v1/drops", q, nil, &out)
	return out.Items, out.Warnings, err
}

// Trace tells what would become of a packet that a port sends: an echo request (protocol icmp), or tcp or udp to a port.
func (c *Client) Trace(ctx context.Context, tenant, name string, to netip.Addr, protocol string, port uint16) (*v1.Trace, error) {
	q := url.Values{"to": {to.String()}, "protocol": {protocol}, "port": {strconv.Itoa(int(port))}}
	out := &v1.Trace{}
	return out, c.call(ctx, http.MethodGet, "/api/v1/tenants/"+url.PathEscape(tenant)+"/ports/"+url.PathEscape(name)+"/trace", q, nil, out)
}

// Ask puts a question to a node and reads the answer into result. Argument and result may be nil.
func (c *Client) Ask(ctx context.Context, node, what string, argument, result any) error {
	return c.call(ctx, http.MethodPost, "/api/v1/nodes/"+url.PathEscape(node)+"/ask/"+url.PathEscape(what), nil, argument, result)
}

// call makes one request and reads the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var data []byte
	var err error
	if in != nil {
		if data, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	resp, err := c.patiently(ctx, func() (*http.Response, error) {
		var body io.Reader
		if in != nil {
			body = bytes.NewReader(data)
		}
		return c.send(ctx, method, path, query, body)
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return unreadable(err)
	}
	return nil
}

// patiently makes a request again that the server had no time for: it was not begun.
func (c *Client) patiently(ctx context.Context, send func() (*http.Response, error)) (*http.Response, error) {
	for end := time.Now().Add(patience); ; {
		resp, err := send()
		var busy *busyError
		if !errors.As(err, &busy) {
			return resp, err
		}
		if time.Now().Add(busy.after).After(end) {
			return nil, busy.Unwrap()
		}
		select {
		case <-ctx.Done():
			return nil, c.unreachable(ctx, ctx.Err())
		case <-time.After(busy.after):
		}
	}
}

// busyError is the refusal of a request that may be sent again after a time.
type busyError struct {
	refusal *v1.Error
	after   time.Duration
}

// Error is the server's own words.
func (b *busyError) Error() string { return b.refusal.Error() }

// Unwrap returns the server's own error.
func (b *busyError) Unwrap() error { return b.refusal }

// send makes one request. The caller closes the body of the answer, which is a good one.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	target := strings.TrimSuffix(c.server.String(), "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	refused := refusal(resp, data, c.server.String())
	if resp.StatusCode == http.StatusTooManyRequests {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a second, if it makes no sense
		return nil, &busyError{refused, time.Duration(max(1, seconds)) * time.Second}
	}
	return nil, refused
}

// refusal reads the error in an answer.
func refusal(resp *http.Response, data []byte, from string) *v1.Error {
	e := &v1.Error{}
	if json.Unmarshal(data, e) != nil || e.Code == "" {
		text := strings.TrimSpace(string(data[:min(len(data), 200)]))
		e = &v1.Error{
			Code: v1.CodeInternal, Message: fmt.Sprintf("%s answered %s: %q", from, resp.Status, text),
			Fix: "check that a weft server, not something else, listens there",
		}
	}
	e.Status = resp.StatusCode
	return e
}

// unreachable makes an error of a way to the server that does not work. A context that ended is the caller's own doing
// and stays what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask %s: %w", c.server, context.Cause(ctx))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL is in the message already
	}
	e := &v1.Error{
		Status: http.StatusServiceUnavailable, Code: v1.CodeUnavailable, Message: fmt.Sprintf("no answer from %s: %v", c.server, err),
		Fix: fmt.Sprintf("check that the server runs and that it is the right one: curl -k %s/healthz", strings.TrimSuffix(c.server.String(), "/")),
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		e.Message = fmt.Sprintf("the certificate of %s is not to be trusted: %v", c.server, cert.Err)
		e.Fix = "name the authority (ca.pem in the server's state directory) in the context; if the server was set up anew, it has another one"
	}
	return e
}

func unreadable(err error) *v1.Error {
	return &v1.Error{
		Status: http.StatusBadGateway, Code: v1.CodeMalformed, Message: fmt.Sprintf("the server's answer cannot be read: %v", err),
		Fix: "compare the versions of client and server: weft version, weft status",
	}
}

func unknownKind(kind v1.Kind) *v1.Error {
	return &v1.Error{Status: http.StatusBadRequest, Code: v1.CodeUnknownKind, Field: "kind", Message: fmt.Sprintf("there is no kind %q", kind), Fix: "weft explain lists the kinds"}
}

// listPath returns the path of a kind's list.
func listPath(kind v1.Kind, tenant string) (string, error) {
	info, ok := v1.KindByWord(string(kind))
	switch {
	case !ok:
		return "", unknownKind(kind)
	case info.Tenanted && tenant != "":
		return "/api/v1/tenants/" + url.PathEscape(tenant) + "/" + info.Plural, nil
	}
	return "/api/v1/" + info.Plural, nil
}

// onePath returns the path of one resource.
func onePath(kind v1.Kind, tenant, name string) (string, error) {
	info, ok := v1.KindByWord(string(kind))
	missing := func(field string) error {
		return &v1.Error{Status: http.StatusBadRequest, Code: v1.CodeRequired, Field: "metadata." + field, Message: fmt.Sprintf("the %s of the %s is missing", field, info.Singular), Fix: "name it"}
	}
	switch {
	case !ok:
		return "", unknownKind(kind)
	case name == "":
		return "", missing("name")
	case info.Tenanted && tenant == "":
		return "", missing("tenant")
	}
	path, err := listPath(info.Kind, tenant)
	return path + "/" + url.PathEscape(name), err
}
