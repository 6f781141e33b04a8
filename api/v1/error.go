// SPDX-License-Identifier: Apache-2.0

package v1

import "strings"

// Error says what was wrong with a request: RFC 9457 problem details with the members code, field, fix and requestId.
type Error struct {
	Status    int       `json:"status" doc:"HTTP status."`
	Code      string    `json:"code" doc:"Stable word for programs, for example OVERLAP." example:"OVERLAP"`
	Object    string    `json:"object,omitempty" doc:"What the error is about: tenant/kind/name." example:"red/subnet/web"`
	Field     string    `json:"field,omitempty" doc:"Path of the field." example:"spec.prefixes[0]"`
	Message   string    `json:"message" doc:"What is wrong, and why."`
	Fix       string    `json:"fix,omitempty" doc:"How to mend it."`
	RequestID string    `json:"requestId,omitempty" doc:"Names this request in the server's log."`
	Errors    ErrorList `json:"errors,omitempty" doc:"Every error found, where there is more than one."`

	line, column int // of the field in its document, from 1; 0: not known
}

// Error returns object, field and message in one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// ErrorList is every error found in a request, in the order of the documents and their fields.
type ErrorList []*Error

// Error lists every error, one a line.
func (l ErrorList) Error() string {
	lines := make([]string, 0, len(l))
	for _, e := range l {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// OrNil returns the list as an error, or nil if it is empty.
func (l ErrorList) OrNil() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Unwrap gives errors.As and errors.Is every error.
func (l ErrorList) Unwrap() []error {
	out := make([]error, 0, len(l))
	for _, e := range l {
		out = append(out, e)
	}
	return out
}

// Codes of errors that a document can have by itself. Codes are stable: append, never rename.
const (
	CodeMalformed     = "MALFORMED"      // not JSON or YAML of the right shape
	CodeUnknownField  = "UNKNOWN_FIELD"  // a field that the kind does not have
	CodeUnknownKind   = "UNKNOWN_KIND"   // a kind or apiVersion that does not exist
	CodeRequired      = "REQUIRED"       // a field is missing
	CodeInvalid       = "INVALID"        // a value that can never be right
	CodeDuplicate     = "DUPLICATE"      // the same value or document twice
	CodeHostBits      = "HOST_BITS"      // a prefix with bits set beyond its length
	CodeUnsupported   = "UNSUPPORTED"    // right in itself, not carried by this version
	CodeImmutable     = "IMMUTABLE"      // a field that cannot change once set
	CodeOutside       = "OUTSIDE"        // an address or prefix outside the one that must hold it
	CodeOverlap       = "OVERLAP"        // two ranges that must be apart
	CodeReserved      = "RESERVED"       // an address that the system keeps
	CodeInUse         = "IN_USE"         // an address, name or resource that something else holds
	CodeNoReference   = "NO_REFERENCE"   // a name that no resource has
	CodeExhausted     = "EXHAUSTED"      // no free address or number is left
	CodeQuota         = "QUOTA"          // the tenant's quota is reached
	CodeConflict      = "CONFLICT"       // the stored resource is not the version that the write names
	CodeNotFound      = "NOT_FOUND"      // no such resource or URL
	CodeUnauthorized  = "UNAUTHORIZED"   // no valid token
	CodeForbidden     = "FORBIDDEN"      // the token does not allow it
	CodeTooLarge      = "TOO_LARGE"      // more bytes or documents than allowed
	CodeExpired       = "EXPIRED"        // a resourceVersion too old to resume from
	CodeNodeGone      = "NODE_GONE"      // the node is not connected
	CodeUnavailable   = "UNAVAILABLE"    // try again later
	CodeInternal      = "INTERNAL"       // a fault of the server
	CodeBindingTaken  = "BINDING_TAKEN"  // the port is attached elsewhere
	CodeWrongNode     = "WRONG_NODE"     // spec.node names another node
	CodePrecondition  = "PRECONDITION"   // something must be done first
	CodeTimeout       = "TIMEOUT"        // did not happen in time
	CodeUnknownMethod = "UNKNOWN_METHOD" // the URL exists, not with this method
	CodeNodeDrained   = "NODE_DRAINED"   // the node takes no further ports
	CodeNodeRemoved   = "NODE_REMOVED"   // the machine was removed from the system
	CodeTooMany       = "TOO_MANY"       // more requests than are taken now
	CodeNodeAlive     = "NODE_ALIVE"     // the node's agent is connected
)
