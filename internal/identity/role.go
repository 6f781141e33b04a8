// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"strings"
)

// ParseRole reads who has a role: CLAIM=VALUE:ROLE, or with a tenant's role CLAIM=VALUE:ROLE/TENANT. The value may hold colons.
func ParseRole(text string) (RoleOf, error) {
	claim, rest, ok := strings.Cut(text, "=")
	i := strings.LastIndex(rest, ":")
	if !ok || i < 0 {
		return RoleOf{}, fmt.Errorf("%q is not CLAIM=VALUE:ROLE, such as groups=net-ops:admin or groups=red-team:tenant-admin/red", text)
	}
	role, tenant, _ := strings.Cut(rest[i+1:], "/")
	r := RoleOf{Claim: claim, Value: rest[:i], Role: Role(role), Tenant: tenant}
	return r, r.check()
}
