// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

var update = flag.Bool("update", false, "write the golden files")

// desk is a server that knows some resources by heart and remembers what was asked of it.
type desk struct {
	t       *testing.T
	objects map[string]v1.Object // by path
	calls   []string
	refuse  map[string]*v1.Error          // by "METHOD path"
	stream  []func(w http.ResponseWriter) // answers of the next watches
	stall   time.Duration                 // before every answer
}

const documents = `
apiVersion: weft/v1
kind: Tenant
metadata: {name: red, uid: u1, resourceVersion: "3", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {quota: {ports: 7}}
status: {number: 1}
---
apiVersion: weft/v1
kind: Node
metadata: {name: host-1, uid: u2, resourceVersion: "4", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {address: 198.19.0.3, roles: [host]}
status: {number: 3, ready: true, state: Ready, ports: 1, rows: 7, version: v1, kernel: 6.18.0}
---
apiVersion: weft/v1
kind: Node
metadata: {name: host-2, uid: u3, resourceVersion: "5", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {address: 198.19.0.4, roles: [host, edge]}
status: {number: 4, ready: false, state: Gone, ports: 0, rows: 0}
---
apiVersion: weft/v1
kind: VPC
metadata: {name: main, tenant: red, uid: u4, resourceVersion: "6", generation: 2, createdAt: 2026-01-02T03:04:05Z}
spec: {prefixes: [10.0.0.0/16]}
status: {vni: 4096, applied: {nodes: 2, applied: 1, waiting: [host-2]}}
---
apiVersion: weft/v1
kind: Subnet
metadata: {name: web, tenant: red, uid: u5, resourceVersion: "7", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {vpc: main, prefixes: [10.0.1.0/24, "fd00:0:0:1::/64"], gateway: 10.0.1.1}
status: {number: 1, applied: {nodes: 2, applied: 2}}
---
apiVersion: weft/v1
kind: Port
metadata: {name: web-1, tenant: red, labels: {app: web, tier: front}, uid: u6, resourceVersion: "8", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {subnet: web, allowedSources: [10.9.0.0/16]}
status: {addresses: [10.0.1.4, "fd00:0:0:1::4"], mac: "02:15:7e:4e:e9:42", vpc: main, vni: 4096, node: host-1, binding: b1, state: Attached, applied: {nodes: 2, applied: 2}}
---
apiVersion: weft/v1
kind: Port
metadata: {name: web-2, tenant: red, uid: u7, resourceVersion: "9", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {subnet: web, addresses: [10.0.1.5], node: host-2}
status: {addresses: [10.0.1.5], mac: "02:15:6f:11:af:23", vpc: main, vni: 4096, state: Detached, applied: {nodes: 2, applied: 2}}
---
apiVersion: weft/v1
kind: RouteTable
metadata: {name: out, tenant: red, uid: u8, resourceVersion: "10", generation: 1, createdAt: 2026-01-02T03:04:05Z}
spec: {vpc: main, subnets: [db, web], routes: [{to: 0.0.0.0/0, via: port/web-1}, {to: "::/0", via: port/web-2}, {to: 10.8.0.0/16, via: blackhole}, {to: 10.7.0.0/16, via: port/gone}]}
status: {number: 1, applied: {nodes: 2, applied: 2}}
`

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, objects: map[string]v1.Object{}, refuse: map[string]*v1.Error{}}
	docs, err := v1.DecodeYAML([]byte(strings.ReplaceAll(documents, "2026-01-02T03:04:05Z", time.Now().Add(-49*time.Hour).UTC().Format(time.RFC3339))))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range docs {
		d.objects[d.path(o)] = o
	}
	srv := httptest.NewTLSServer(d)
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	err = client.UpdateContexts(func(c *client.Contexts) error {
		c.Add(client.Context{Name: "test", Server: srv.URL, Token: "token", CA: string(ca)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) path(o v1.Object) string {
	info, _ := v1.KindByWord(string(o.GetKind()))
	if info.Tenanted {
		return "/api/v1/tenants/" + o.Meta().Tenant + "/" + info.Plural + "/" + o.Meta().Name
	}
	return "/api/v1/" + info.Plural + "/" + o.Meta().Name
}

// ServeHTTP answers as the API does.
func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(d.stall):
	case <-r.Context().Done():
	}
	call := r.Method + " " + r.URL.Path
	d.calls = append(d.calls, call+"?"+r.URL.RawQuery)
	if e := d.refuse[call]; e != nil {
		d.fail(w, e)
		return
	}
	switch {
	case r.URL.Query().Get("watch") == "true" && len(d.stream) > 0:
		d.stream[0](w)
		d.stream = d.stream[1:]
	case r.URL.Path == "/api/v1/status":
		d.answer(w, v1.ClusterStatus{
			Version: "v1", ResourceVersion: "9", UptimeSeconds: 3700, Store: v1.StoreStatus{Embedded: true, Version: "3.7.3", Members: 1, LatencyMS: 0.5, SizeBytes: 20480},
			Nodes:  []v1.Node{*d.objects["/api/v1/nodes/host-1"].(*v1.Node), *d.objects["/api/v1/nodes/host-2"].(*v1.Node)},
			Counts: map[string]int{"tenants": 1, "nodes": 2, "vpcs": 1, "subnets": 1, "ports": 2, "routetables": 1}, Drops: 12, Warnings: []string{"host-2: its agent has not been heard for 38s"},
		})
	case r.URL.Path == "/api/v1/drops":
		d.answer(w, map[string]any{"items": []v1.Drop{
			{Node: "host-1", Tenant: "red", Reason: "src-ip-spoof", Packets: 10, Bytes: 840, Meaning: "the source address is not the port's"},
			{Node: "host-2", Reason: "tunnel-peer-unknown", Packets: 2, Bytes: 100, Meaning: "the sender is no node of the VPC"},
		}})
	case strings.HasSuffix(r.URL.Path, "/trace"):
		d.answer(w, traces[r.URL.Query().Get("to")])
	case r.URL.Path == "/api/v1/apply":
		d.apply(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/v1/nodes/host-1/ask/"):
		d.answer(w, map[string]string{"text": "vni=4096 address=10.0.1.4 kind=peer\n"})
	case r.Method == http.MethodDelete:
		d.answer(w, v1.Result{DryRun: r.URL.Query().Get("dryRun") == "true", ResourceVersion: "9", Items: []v1.ResultItem{{Action: v1.ActionDeleted, Kind: v1.KindPort, Tenant: "red", Name: "web-1"}}})
	case d.objects[r.URL.Path] != nil:
		d.answer(w, d.objects[r.URL.Path])
	default:
		d.list(w, r.URL.Path)
	}
}

func (d *desk) list(w http.ResponseWriter, path string) {
	parts := strings.Split(strings.TrimPrefix(path, "/api/v1/"), "/")
	kind, ok := v1.KindByWord(parts[len(parts)-1])
	if !ok {
		d.fail(w, &v1.Error{Status: 404, Code: v1.CodeNotFound, Object: "red/port/" + parts[len(parts)-1], Message: "there is no such port", Fix: "'weft get ports -t red' lists them"})
		return
	}
	list := v1.List{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: kind.Kind + "List"}, ResourceVersion: "9", Items: []json.RawMessage{}}
	var paths []string
	for p, o := range d.objects {
		if o.GetKind() == kind.Kind {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		body, err := json.Marshal(d.objects[p])
		if err != nil {
			d.t.Error(err)
		}
		list.Items = append(list.Items, body)
	}
	d.answer(w, list)
}

func (d *desk) apply(w http.ResponseWriter, r *http.Request) {
	var in struct{ Documents []json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		d.t.Error(err)
	}
	res := v1.Result{DryRun: r.URL.Query().Get("dryRun") == "true", ResourceVersion: "10"}
	for _, raw := range in.Documents {
		o, err := v1.DecodeJSON(raw)
		if err != nil {
			d.t.Error(err)
			continue
		}
		if p, ok := o.(*v1.Port); ok && len(p.Status.Addresses) == 0 {
			p.Status.Addresses, p.Status.MAC = p.Spec.Addresses, v1.MAC{2, 0, 0, 0, 0, 1}
		}
		body, err := json.Marshal(o)
		if err != nil {
			d.t.Error(err)
		}
		res.Items = append(res.Items, v1.ResultItem{Action: v1.ActionCreated, Kind: o.GetKind(), Tenant: o.Meta().Tenant, Name: o.Meta().Name, Object: body})
	}
	d.answer(w, res)
}

func (d *desk) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		d.t.Error(err)
	}
}

func (d *desk) fail(w http.ResponseWriter, e *v1.Error) {
	e.RequestID = "REQ1"
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	d.answer(w, e)
}

// weft runs a command line as a person would and returns what it printed.
func weft(in string, args ...string) (out, errs string, code int) {
	var stdout, stderr bytes.Buffer
	env := &term.Env{Out: &stdout, Err: &stderr, In: strings.NewReader(in), Version: "v1"}
	cmd := New(env)
	cmd.SetArgs(args)
	err := cmd.Execute()
	if err != nil {
		env.PrintError(err)
	}
	return stdout.String(), stderr.String(), term.ExitCode(err)
}

// moments are times of creation, which differ from run to run.
var moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:]+Z`)

// writeDocuments makes the files that command lines name: a good one, one with errors, and one with a route table.
func writeDocuments(t *testing.T) (file, bad, table string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	head := func(kind, name string) string {
		return "apiVersion: weft/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", tenant: red}\n"
	}
	file = write("doc.yaml", "apiVersion: weft/v1\nkind: Port\nmetadata: {name: web-2, tenant: red, labels: {app: db}}\nspec: {subnet: web, addresses: [10.0.1.6]}\n---\n"+
		"apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: blue}\n")
	bad = write("bad.yaml", head("Port", "x")+"spec: {subnett: web}\n---\n"+head("VPC", "y")+"spec: {prefixes: [10.0.0.1/16]}\n")
	table = write("table.yaml", head("RouteTable", "out")+"spec: {vpc: main, subnets: [web], routes: [{to: 0.0.0.0/0, via: blackhole}]}\n")
	return file, bad, table
}

// TestOutput compares what commands print with testdata/*.golden.
func TestOutput(t *testing.T) {
	d := newDesk(t)
	file, bad, tableFile := writeDocuments(t)
	d.refuse["GET /api/v1/tenants/blue"] = &v1.Error{Status: 404, Code: v1.CodeNotFound, Object: "tenant/blue", Message: "there is no such tenant"}
	for name, line := range map[string]string{
		"get_ports":         "get port -t red",
		"get_ports_wide":    "get port -A -o wide",
		"get_several":       "get vpc,subnet -t red",
		"get_nodes_wide":    "get node -o wide",
		"get_tenants":       "get tenants",
		"get_yaml":          "get port red/web-1 -o yaml",
		"get_json":          "get tenant red -o json",
		"get_name":          "get port,vpc -A -o name",
		"get_selected":      "get port -A -l app=web",
		"get_drops":         "get drops",
		"get_drops_wide":    "get drops -o wide",
		"describe_port":     "describe port red/web-1",
		"describe_detached": "describe port red/web-2",
		"describe_node":     "describe node host-1",
		"describe_vpc":      "describe vpc main -t red",
		"describe_subnet":   "describe subnet web -t red",
		"describe_tenant":   "describe tenant red",
		"describe_table":    "describe rt out -t red",
		"get_tables":        "get routetable -t red",
		"get_tables_wide":   "get rt -A -o wide",
		"get_table_yaml":    "get routetable red/out -o yaml",
		"explain":           "explain",
		"explain_table":     "explain routetable.spec",
		"explain_routes":    "explain rt.spec.routes",
		"explain_field":     "explain port.spec.allowedSources",
		"error_explain":     "explain port.spec.nope",
		"create_appliance":  "create port red/fw-1 --subnet web --address 10.0.1.9,fd00:0:0:1::9 --allow-source 0.0.0.0/0,::/0",
		"error_address":     "create port red/fw-1 --subnet web --address 10.0.1",
		"diff_table":        "diff -f " + tableFile,
		"apply_table":       "apply -f " + tableFile,
		"status":            "status",
		"dump":              "dump location --node host-1",
		"apply":             "apply -f " + file,
		"apply_dry":         "apply --dry-run -f " + file,
		"diff":              "diff -f " + file,
		"delete":            "delete port red/web-1 --yes",
		"delete_dry":        "delete port red/web-1 --dry-run",
		"delete_asks":       "delete port red/web-1",
		"create_port":       "create port red/new --subnet web --address 10.0.1.9",
		"create_vpc":        "create vpc -t red lab --prefix 10.0.0.0/16,fd00::/48",
		"create_subnet":     "create subnet red/new --vpc main --prefix 10.0.3.0/24 --gateway 10.0.3.9 --dns 10.0.1.53",
		"error_create":      "create subnets red/new --vpc main",
		"error_create_name": "create vpc lab --prefix 10.0.0.0/16",
		"error_range":       "create vpc red/lab --prefix 10.0.0.0",
		"error_missing":     "get",
		"error_too_many":    "create tenant red blue",
		"error_duration":    "wait port/red/web-1 --for delete --timeout 3",
		"error_remove":      "context remove other",
		"context_current":   "context current",
		"error_subcommand":  "context bogus",
		"context_list":      "context list",
		"error_not_found":   "get port red/nobody",
		"error_kind":        "get prt",
		"get_all":           "get port",
		"error_tenant":      "get port web-1",
		"error_flag":        "get port --nope",
		"error_arguments":   "status now",
		"error_format":      "get port -A -o xml",
		"error_file":        "apply",
		"error_document":    "apply -f " + bad,
		"error_command":     "gett port",
		"error_color":       "--color foo get tenants",
		"error_netns":       "attach red/web-1",
		"error_ways":        "attach red/web-1 --tap tap0 --device eth7",
		"error_owner":       "attach red/web-1 --tap tap0 --owner nobody-has-this-name",
		"error_force":       "attach red/web-1 --netns web --force",
		"error_check":       "check --test (",
		"get_colors":        "get node --color always",
		"error_node":        "dump rows",
		"error_attach":      "attach red/web-1 --netns x --socket /nowhere/agent.sock",
		"error_context":     "--context other get tenants",
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name, line, strings.NewReplacer(file, "doc.yaml", bad, "bad.yaml", tableFile, "table.yaml", os.Getenv("WEFT_CONFIG"), "config.yaml"))
		})
	}
}

// golden compares what a command line prints, with paths of this run replaced, with testdata/NAME.golden.
func golden(t *testing.T, name, line string, paths *strings.Replacer) {
	t.Helper()
	out, errs, code := weft("", strings.Fields(line)...)
	got := fmt.Sprintf("$ weft %s\n%s", paths.Replace(line), moments.ReplaceAllString(out, "TIME"))
	if errs != "" {
		got += "--- stderr\n" + paths.Replace(errs)
	}
	got += fmt.Sprintf("--- exit %d\n", code)
	got = regexp.MustCompile(`https://127\.0\.0\.1:\d+`).ReplaceAllString(got, "https://127.0.0.1:7443")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("got\n%s\nwant (%v)\n%s", got, err, want)
	}
}

func TestExitCodes(t *testing.T) {
	d := newDesk(t)
	for code, want := range map[string]int{
		v1.CodeNotFound: 3, v1.CodeConflict: 4, v1.CodeInUse: 4, v1.CodeBindingTaken: 4, v1.CodeUnauthorized: 5, v1.CodeForbidden: 5,
		v1.CodeUnavailable: 6, v1.CodeTimeout: 6, v1.CodeInternal: 1, v1.CodeInvalid: 1,
	} {
		d.refuse["GET /api/v1/tenants"] = &v1.Error{Status: 400, Code: code, Message: "m"}
		if _, errs, got := weft("", "get", "tenants"); got != want {
			t.Errorf("%s exits with %d, want %d\n%s", code, got, want, errs)
		}
	}
	delete(d.refuse, "GET /api/v1/tenants")
	if _, _, got := weft("", "get", "tenants"); got != 0 {
		t.Errorf("success exits with %d", got)
	}
}

func TestUnreachableServer(t *testing.T) {
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml"))
	err := client.UpdateContexts(func(c *client.Contexts) error {
		c.Add(client.Context{Name: "gone", Server: "https://127.0.0.1:1", Token: "token"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, errs, code := weft("", "get", "tenants")
	if code != term.ExitUnavailable || !strings.Contains(errs, "127.0.0.1:1") || !strings.Contains(errs, "fix:") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestNoContextSaysWhatToDo(t *testing.T) {
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml"))
	_, errs, code := weft("", "get", "tenants")
	if code == 0 || !strings.Contains(errs, "weft lab up") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestWaitTellsWhoIsMissing(t *testing.T) {
	newDesk(t)
	doc := "apiVersion: weft/v1\nkind: VPC\nmetadata: {name: main, tenant: red}\nspec: {prefixes: [10.0.0.0/16]}\n"
	start := time.Now()
	_, errs, code := weft(doc, "apply", "-f", "-", "--wait", "--timeout", "100ms")
	if code != term.ExitUnavailable || !strings.Contains(errs, "in effect on 1 of 2 nodes") || !strings.Contains(errs, "host-2") || time.Since(start) > 5*time.Second {
		t.Errorf("exit %d after %s:\n%s", code, time.Since(start), errs)
	}
	doc = "apiVersion: weft/v1\nkind: Subnet\nmetadata: {name: web, tenant: red}\nspec: {vpc: main, prefixes: [10.0.1.0/24]}\n"
	if _, errs, code := weft(doc, "apply", "-f", "-", "--wait"); code != 0 || !strings.Contains(errs, "applied   2/2 nodes") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestDeleteByFileGoesFromUsersToUsed(t *testing.T) {
	d := newDesk(t)
	if _, errs, code := weft(documents, "delete", "-f", "-", "--yes"); code != 0 {
		t.Fatal(errs)
	}
	var order []string
	for _, c := range d.calls {
		if rest, ok := strings.CutPrefix(c, "DELETE /api/v1/"); ok {
			order = append(order, strings.Split(strings.TrimPrefix(rest, "tenants/red/"), "?")[0])
		}
	}
	if want := "routetables/out ports/web-1 ports/web-2 subnets/web vpcs/main nodes/host-1 nodes/host-2 tenants/red"; strings.Join(order, " ") != want {
		t.Errorf("order %v, want %s", order, want)
	}
}

// TestWhatIsPrintedCanBeAppliedAgain: IPv6 is full of what YAML could take for its own.
func TestWhatIsPrintedCanBeAppliedAgain(t *testing.T) {
	rt := &v1.RouteTable{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindRouteTable}, Metadata: v1.Metadata{Tenant: "red", Name: "out"},
		Spec: v1.RouteTableSpec{VPC: "main", Subnets: []string{"web"}, Routes: []v1.Route{
			{To: netip.MustParsePrefix("::/0"), Via: "blackhole"}, {To: netip.MustParsePrefix("fd00::/48"), Via: "port/a"},
		}},
	}
	subnet := &v1.Subnet{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindSubnet}, Metadata: v1.Metadata{Tenant: "red", Name: "web"},
		Spec: v1.SubnetSpec{
			VPC: "main", Prefixes: []netip.Prefix{netip.MustParsePrefix("12:34::/64")}, Gateway: netip.MustParseAddr("12:34::56"),
			DNS: []netip.Addr{netip.MustParseAddr("fd00::"), netip.MustParseAddr("1::"), netip.MustParseAddr("1:2:3:4:5:6:7:8")},
		},
	}
	for _, o := range []v1.Object{rt, subnet} {
		text, err := term.ToYAML(o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := v1.DecodeYAML([]byte(text))
		if err != nil || len(again) != 1 || !v1.SameSpec(o, again[0]) {
			t.Errorf("%s\ncame back as %v, error %v", text, again, err)
		}
	}
}
