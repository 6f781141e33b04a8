// SPDX-License-Identifier: Apache-2.0

package dhcp

import "fmt"

// Result is what became of a question. Answers come first, then the causes of silence.
type Result uint8

// Results. Zero is none.
const (
	Offer Result = iota + 1
	Ack
	Nak
	Advertise
	Reply
	ReplyDeclined // the client found its address in use by somebody else
	RouterAdvert
	RouterAdvertUnasked // sent because it was time, or because the port's row changed

	Malformed   // frame or message cannot be read, or lacks what its kind must have
	Unknown     // no port of this node is at the device that the frame names
	OtherMAC    // frame or message is of another MAC than the port's
	NoAddress   // the port has no address of this family, or no router in its range
	Elsewhere   // not from an address that asks, or not to one that is asked
	OtherServer // the client chose another server
	Relayed     // it came through a relay, and there is none here
	Released    // the client gives its address up, which changes nothing: it is the port's
	Declined    // the client found its address in use by somebody else
	NoQuestion  // a kind of message that no server answers
	TooLong     // the answer would be longer than any link carries
	Unsent      // the answer could not be written

	resultEnd
)

// names are what people see, by result.
func (r Result) String() string {
	names := [resultEnd]string{
		Offer: "dhcp4-offer", Ack: "dhcp4-ack", Nak: "dhcp4-nak", Advertise: "dhcp6-advertise", Reply: "dhcp6-reply",
		ReplyDeclined: "dhcp6-reply-declined",
		RouterAdvert:  "router-advert", RouterAdvertUnasked: "router-advert-unasked",
		Malformed: "malformed", Unknown: "port-unknown", OtherMAC: "other-mac", NoAddress: "no-address", Elsewhere: "elsewhere",
		OtherServer: "other-server", Relayed: "relayed", Released: "released", Declined: "declined", NoQuestion: "no-question",
		TooLong: "too-long", Unsent: "unsent",
	}
	if r == 0 || r >= resultEnd {
		return fmt.Sprintf("result%d", uint8(r))
	}
	return names[r]
}

// Answered reports whether there is an answer.
func (r Result) Answered() bool { return r >= Offer && r <= RouterAdvertUnasked }
