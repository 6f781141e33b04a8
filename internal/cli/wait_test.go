// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/cli/term"
)

// TestWaitListsAgain where the server no longer knows the version, and tells each resource once.
func TestWaitListsAgain(t *testing.T) {
	d := newDesk(t)
	moved := v1.Clone(d.objects["/api/v1/tenants/red/ports/web-2"]).(*v1.Port)
	moved.Status.Node, moved.ResourceVersion = "host-2", "11"
	other := v1.Clone(d.objects["/api/v1/tenants/red/ports/web-1"]).(*v1.Port)
	other.Name, other.Status.Node, other.ResourceVersion = "other", "host-2", "10"
	d.stream = []func(http.ResponseWriter){
		func(w http.ResponseWriter) {
			d.event(w, v1.EventBookmark, "9", nil)
			d.event(w, v1.EventAdded, "10", other) // it waits for those that were there
		},
		func(w http.ResponseWriter) {
			d.fail(w, &v1.Error{Status: 410, Code: v1.CodeExpired, Message: "too old"})
		},
		func(w http.ResponseWriter) {
			d.event(w, v1.EventBookmark, "10", nil)
			d.event(w, v1.EventModified, "11", moved)
		},
	}
	out, errs, code := weft("", "wait", "port", "-t", "red", "--for", "field=status.node", "--timeout", "5s")
	if code != 0 || out != "red/port/web-1 condition met\nred/port/web-2 condition met\n" || !strings.Contains(errs, "waiting for red/port/web-2 (it has no value)") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// TestWaitEnds with an error of the server that no time mends.
func TestWaitEnds(t *testing.T) {
	d := newDesk(t)
	d.stream = []func(http.ResponseWriter){func(w http.ResponseWriter) {
		d.fail(w, &v1.Error{Status: 403, Code: v1.CodeForbidden, Message: "no more"})
	}}
	if out, errs, code := weft("", "wait", "port/red/web-2", "--for", "condition=Ready"); code != term.ExitDenied || out != "" || !strings.Contains(errs, "no more") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// TestWaitForADeletedOne that was made anew under its name: that which was there is gone.
func TestWaitForADeletedOne(t *testing.T) {
	d := newDesk(t)
	anew := v1.Clone(d.objects["/api/v1/tenants/red/ports/web-2"]).(*v1.Port)
	anew.UID, anew.ResourceVersion = "another", "12"
	d.stream = []func(http.ResponseWriter){func(w http.ResponseWriter) {
		d.event(w, v1.EventBookmark, "9", nil)
		d.event(w, v1.EventModified, "12", anew)
	}}
	if out, errs, code := weft("", "wait", "port/red/web-2", "--for=delete", "--timeout=5s"); code != 0 || out != "red/port/web-2 deleted\n" {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}
