// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"weft/internal/base/dropreason"
)

// DropReason says why a packet was dropped. The numbers are those of enum drop_reason and never change.
type DropReason uint16

// Why a packet was dropped.
const (
	DropNone              DropReason = 0 // not a drop
	DropPortUnknown       DropReason = 1
	DropShort             DropReason = 2
	DropEthertype         DropReason = 3
	DropVLAN              DropReason = 4
	DropSrcMACSpoof       DropReason = 5
	DropSrcIPSpoof        DropReason = 6
	DropARPSpoof          DropReason = 7
	DropARPMalformed      DropReason = 8
	DropARPUnknown        DropReason = 9
	DropBroadcast         DropReason = 10
	DropMulticast         DropReason = 11
	DropDstMAC            DropReason = 12
	DropIPMalformed       DropReason = 13
	DropIPv6Unsupported   DropReason = 14
	DropTTLExpired        DropReason = 15
	DropTooBig            DropReason = 16
	DropNoLocation        DropReason = 17
	DropNotLocal          DropReason = 18
	DropTunnelKey         DropReason = 19
	DropTunnelPeerUnknown DropReason = 20
	DropHostToPort        DropReason = 21
	DropRouterProto       DropReason = 22
	DropEncap             DropReason = 23
	DropToSelf            DropReason = 24
	DropRewrite           DropReason = 25
	DropChecksum          DropReason = 26
	DropExtHeader         DropReason = 27
	DropNDSpoof           DropReason = 28
	DropNDMalformed       DropReason = 29
	DropNDUnknown         DropReason = 30
	DropRAGuard           DropReason = 31
	DropRouterSolicit     DropReason = 32
	DropLinkLocal         DropReason = 33
	DropIPOptions         DropReason = 34
	DropPuntRate          DropReason = 35
	DropDHCPServer        DropReason = 36
	DropBlackhole         DropReason = 37
)

// DropReasons returns every reason, in order of number.
func DropReasons() []DropReason {
	var reasons []DropReason
	for r := DropNone + 1; int(r) < dropreason.Count(); r++ {
		reasons = append(reasons, r)
	}
	return reasons
}

// String returns the word for the reason, as everybody sees it: src-ip-spoof.
func (r DropReason) String() string {
	if known, ok := dropreason.ByNumber(int(r)); ok {
		return known.Word
	}
	return fmt.Sprintf("reason%d", uint16(r))
}

// Meaning returns the reason in a sentence.
func (r DropReason) Meaning() string {
	if known, ok := dropreason.ByNumber(int(r)); ok {
		return known.Meaning
	}
	return "a reason that this build does not know"
}
