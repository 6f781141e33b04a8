// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// FuzzRefusal: an error of the API comes to a node as it left the server, and whatever a server says makes a sentence.
func FuzzRefusal(f *testing.F) {
	f.Add(uint32(codes.FailedPrecondition), refusedMark+`{"code":"BINDING_TAKEN","object":"red/port/web-1","message":"m","fix":"f"}`)
	f.Add(uint32(codes.FailedPrecondition), refusedMark+`{"message":7}`)
	f.Add(uint32(codes.Unavailable), "connection refused")
	f.Fuzz(func(t *testing.T, code uint32, message string) {
		if code == uint32(codes.OK) {
			return
		}
		err := FromStatus(status.Error(codes.Code(code), message))
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) && refused.Text == "" {
			t.Fatalf("%d %q became %v", code, message, err)
		}
		if refused == nil {
			return
		}
		var again *RefusedError
		if !errors.As(FromStatus(ToStatus(refused)), &again) || string(again.JSON) != string(refused.JSON) || again.Text != refused.Text {
			t.Errorf("%q came back as %q", refused, again)
		}
	})
}
