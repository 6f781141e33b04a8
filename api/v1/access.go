// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"time"
)

// Whoami is who a request is taken for.
type Whoami struct {
	Name    string    `json:"name" doc:"Name in the audit log: admin, token:ID or user:NAME."`
	Role    string    `json:"role" doc:"admin, tenant-admin, tenant-viewer, or empty: nothing is allowed."`
	Tenant  string    `json:"tenant,omitempty" doc:"Tenant of a tenant's role."`
	Expires time.Time `json:"expires,omitzero" doc:"When what proved it ends; absent: never."`
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Role        string `json:"role" doc:"admin, tenant-admin or tenant-viewer." example:"tenant-viewer"`
	Tenant      string `json:"tenant,omitempty" doc:"Tenant of a tenant's role." example:"red"`
	Description string `json:"description,omitempty" doc:"What it is for."`
	ExpiresIn   string `json:"expiresIn,omitempty" doc:"How long it is good, as 24h or 30m; default 720h; 0: it does not end." example:"24h"`
}

// Token is a token without its secret.
type Token struct {
	ID          string    `json:"id" doc:"Name of the token."`
	Role        string    `json:"role" doc:"admin, tenant-admin or tenant-viewer."`
	Tenant      string    `json:"tenant,omitempty" doc:"Tenant of a tenant's role."`
	Description string    `json:"description,omitempty" doc:"What it is for."`
	Created     time.Time `json:"created" doc:"When it was made."`
	CreatedBy   string    `json:"createdBy" doc:"Who made it."`
	Expires     time.Time `json:"expires,omitzero" doc:"When it ends; absent: never."`
	Secret      string    `json:"secret,omitempty" doc:"What is sent as 'Authorization: Bearer SECRET'. Told once, as the token is made."`
}

// Tokens is a list of tokens.
type Tokens struct {
	Items []Token `json:"items" doc:"Tokens that the principal may know of, by when they were made."`
}

// AuditRecords is a part of the audit log.
type AuditRecords struct {
	Items []json.RawMessage `json:"items" doc:"Records, the oldest first: sequence, time, principal, from, operation, tenant, object, outcome, failed, request, detail; for admins the chain's hashes too."`
	Head  string            `json:"head,omitempty" doc:"Hash of the last record of the whole log."`
}
