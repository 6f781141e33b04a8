// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"fmt"
	"net"
)

// MAC is a 48-bit Ethernet address in transmission order. Its zero value means "none".
type MAC [6]byte

// ParseMAC reads six hexadecimal bytes parted by colons, such as 02:00:00:00:00:01.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("%q is not an Ethernet address such as 02:00:00:00:00:01", s)
	}
	return MAC(hw), nil
}

// String returns the address with colons, in lower case.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether m is the zero value.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast reports whether the group bit is clear.
func (m MAC) IsUnicast() bool { return m[0]&1 == 0 }

// MarshalText writes String; the zero value is written as the empty string.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what ParseMAC reads; an empty text is the zero value.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	p, err := ParseMAC(string(text))
	*m = p
	return err
}
