// SPDX-License-Identifier: Apache-2.0

// Package identity says who asks and what for: principals, the tokens that prove them, and what each may do.
package identity

import (
	"context"
	"errors"
	"time"
)

// Role is what a principal may do.
type Role string

// The roles. The first is not bound to a tenant, the others are.
const (
	Admin        Role = "admin"         // everything
	TenantAdmin  Role = "tenant-admin"  // reads and writes what its tenant has
	TenantViewer Role = "tenant-viewer" // reads what its tenant has
)

// Roles lists all roles.
func Roles() []Role { return []Role{Admin, TenantAdmin, TenantViewer} }

// OfTenant reports whether a role is of one tenant.
func (r Role) OfTenant() bool { return r == TenantAdmin || r == TenantViewer }

// Principal is somebody who has proved who it is.
type Principal struct {
	Name    string // for the audit log: "admin", "token:k3v…", "user:anna@example.org"
	Role    Role
	Tenant  string    // of a tenant's roles; "": all
	Expires time.Time // of what proved it; zero: never

	token *Token // that proved it; nil: it was something else
}

// Sees reports whether the principal may know what a tenant has.
func (p Principal) Sees(tenant string) bool {
	return p.Role == Admin || (p.Role.OfTenant() && p.Tenant != "" && p.Tenant == tenant)
}

// Writes reports whether the principal may change what a tenant has.
func (p Principal) Writes(tenant string) bool {
	return p.Role == Admin || (p.Role == TenantAdmin && p.Sees(tenant))
}

// Why a request has no principal.
var (
	ErrNone    = errors.New("the request carries no token")
	ErrUnknown = errors.New("the token is not valid")
	ErrExpired = errors.New("the token has expired")
)

type principalKey struct{}

// With returns a context that carries the principal of a request.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// Of returns the principal of a request. Without one it is nobody, who may do nothing.
func Of(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
