// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RefusedError is a server's refusal that carries the API's own error as JSON, so that the node can hand it to whoever
// asked without losing field and remedy.
type RefusedError struct {
	JSON json.RawMessage // an error of the API
	Text string
}

// Error returns the text.
func (e *RefusedError) Error() string { return e.Text }

const refusedMark = "weft-refused:"

// Refused makes a refusal of an error of the API, which has a form in JSON.
func Refused(e error) error {
	body, err := json.Marshal(e)
	if err != nil {
		return e
	}
	return &RefusedError{JSON: body, Text: e.Error()}
}

// ToStatus makes a gRPC error of a handler's error.
func ToStatus(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return status.Error(codes.FailedPrecondition, refusedMark+string(refused.JSON))
	}
	return status.Error(codes.Unavailable, err.Error())
}

// FromStatus undoes ToStatus.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	body, ok := strings.CutPrefix(st.Message(), refusedMark)
	if !ok {
		return err
	}
	return &RefusedError{JSON: json.RawMessage(body), Text: "refused by the server: " + readable(body)}
}

// IsRemoved reports whether the server says that the node was removed.
func IsRemoved(err error) bool {
	var refused *RefusedError
	var e struct{ Code string }
	return errors.As(err, &refused) && json.Unmarshal(refused.JSON, &e) == nil && e.Code == codeRemoved
}

// codeRemoved is the API's code of a node that was removed.
const codeRemoved = "NODE_REMOVED"

// readable makes a sentence of an error of the API.
func readable(body string) string {
	var e struct{ Object, Field, Message, Fix string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Message == "" {
		return body
	}
	text := e.Message
	for _, place := range []string{e.Field, e.Object} {
		if place != "" {
			text = place + ": " + text
		}
	}
	if e.Fix != "" {
		text += " (" + e.Fix + ")"
	}
	return text
}
