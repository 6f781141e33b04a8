// SPDX-License-Identifier: Apache-2.0

package v1

// ErrorInfo tells what a code of an Error stands for.
type ErrorInfo struct {
	Code string
	Exit int    // exit code of the command line
	What string // what it means
	Why  string // when it comes
	Mend string // what to do
}

// Exit codes of the command line that errors have.
const (
	ExitFailure     = 1
	ExitUsage       = 2
	ExitNotFound    = 3 // there is no such thing
	ExitConflict    = 4 // not together with what there is
	ExitDenied      = 5 // not allowed: token, role, quota
	ExitUnavailable = 6 // no answer, or not in time
)

// ErrorByCode finds what a code stands for.
func ErrorByCode(code string) (ErrorInfo, bool) {
	for _, e := range ErrorCodes() {
		if e.Code == code {
			return e, true
		}
	}
	return ErrorInfo{}, false
}

// ErrorCodes is the catalogue of errors: what each code stands for, in the order in which codes were given out.
func ErrorCodes() []ErrorInfo {
	return append(documentErrors(), requestErrors()...)
}

// documentErrors are those of what users write.
func documentErrors() []ErrorInfo {
	return []ErrorInfo{
		{
			CodeMalformed, ExitFailure, "It cannot be read: not JSON or YAML of the right shape.",
			"Indentation, a bracket or a quote is wrong, the body of a request is no document, or an answer came from something else than weft.",
			"Look at the line and column that the message names. 'weft get KIND NAME -o yaml' prints a document of the right shape.",
		},
		{
			CodeUnknownField, ExitFailure, "The kind has no such field.",
			"A slip, a field of another kind, or of a newer version than the server's.",
			"'weft explain KIND.spec' lists the fields; the error names the nearest.",
		},
		{
			CodeUnknownKind, ExitFailure, "There is no such kind, or no such apiVersion.",
			"A slip in kind, or a document of another system.",
			"'weft explain' lists the kinds. apiVersion is weft/v1.",
		},
		{
			CodeRequired, ExitFailure, "Something that must be said is missing.",
			"A field without a default was left out, or a request names no port, tenant, token or target.",
			"Write what the error names; 'weft explain KIND.FIELD' has an example.",
		},
		{
			CodeInvalid, ExitFailure, "The value can never be right.",
			"A name with letters that names do not have, an address that is none, a number out of bounds, a URL parameter that does not exist.",
			"The fix of the error says what is possible; 'weft explain KIND.FIELD' has an example.",
		},
		{
			CodeDuplicate, ExitFailure, "The same is there twice.",
			"A field twice in a document, a value twice in a list, or a resource twice in a set of documents.",
			"Remove one of the two.",
		},
		{
			CodeHostBits, ExitFailure, "A range has bits set beyond its length.",
			"10.0.1.5/24 is an address with a length: it could mean 10.0.1.0/24 or 10.0.1.5/32.",
			"Write the range that you mean; the error names the nearest.",
		},
		{
			CodeUnsupported, ExitFailure, "Right in itself, and not carried by this version.",
			"An anchor, alias or tag of YAML, or a feature that the server does not have yet.",
			"Write the value out; the change log says what comes.",
		},
		{
			CodeImmutable, ExitConflict, "The field cannot change once it is set.",
			"A subnet would go to another VPC, a port to another subnet, a node to another address while it has ports.",
			"Make another resource, and delete the old one.",
		},
		{
			CodeOutside, ExitFailure, "An address or range is outside the one that must hold it.",
			"A subnet outside its VPC's ranges, an address outside its subnet, a route table's subnet of another VPC.",
			"Choose one inside, or widen what holds it.",
		},
		{
			CodeOverlap, ExitFailure, "Two ranges overlap that must be apart.",
			"Two subnets of a VPC, or two ranges of one resource, have addresses in common.",
			"Choose a range that is free: 'weft get subnets -t TENANT' shows those taken.",
		},
		{
			CodeReserved, ExitFailure, "The system keeps the address.",
			"The first four addresses of a range, and in IPv4 the last, are the router's, the resolver's and others'.",
			"Choose another, or leave the address out to get one.",
		},
		{
			CodeInUse, ExitConflict, "Something else holds it.",
			"An address, MAC or name is taken; or what is to be deleted or narrowed is used by the resources that the error names.",
			"Choose another, or delete the users first; 'weft delete --cascade' takes them along.",
		},
		{
			CodeNoReference, ExitFailure, "A name that no resource has.",
			"A subnet names a VPC, a port a subnet or node, that is not there (any more), or is of another tenant.",
			"Create it first, or in the same set of documents; 'weft get' lists what there is.",
		},
		{
			CodeExhausted, ExitFailure, "No address or number is left.",
			"The subnet is full, or all numbers of a kind are given out.",
			"Delete ports that are not needed, or give the subnet another range.",
		},
		{
			CodeQuota, ExitDenied, "The tenant's quota is reached.",
			"The tenant would have more of a kind than it may.",
			"Delete some, or ask an operator to raise spec.quota of the tenant ('weft explain tenant.spec.quota').",
		},
	}
}

// requestErrors are those of requests, and of the state of the system.
func requestErrors() []ErrorInfo {
	return []ErrorInfo{
		{
			CodeConflict, ExitConflict, "The resource is not any more what the writer has seen, or another stands against it.",
			"Somebody changed it between reading and writing (resourceVersion), or two writes met.",
			"Get it again, and repeat the change; 'weft edit' does.",
		},
		{
			CodeNotFound, ExitNotFound, "There is no such thing.",
			"A slip in kind, tenant or name, a resource that was deleted, or a URL that does not exist.",
			"'weft get KIND -A' lists what there is.",
		},
		{
			CodeUnauthorized, ExitDenied, "It is not known who asks, or whom one is talking to.",
			"The token is missing, wrong, has ended or was revoked; a node has no valid certificate or join token; or the server's certificate is of another authority.",
			"'weft context list' shows which server is meant. Get another token ('weft token create', 'weft login', for machines 'weft node token'), or name the right --ca-file with 'weft context add'.",
		},
		{
			CodeForbidden, ExitDenied, "Who asks may not do this.",
			"The token or certificate is good, and its role does not allow this request.",
			"'weft whoami' says who you are to the server, and in which role. Use a token of another role, or ask an operator.",
		},
		{
			CodeTooLarge, ExitFailure, "More than is possible at once.",
			"A document, a list in it, or a set of documents is too large, or nested too deep.",
			"Split it; 'weft apply' splits sets by itself.",
		},
		{
			CodeExpired, ExitFailure, "The version is too old to go on from.",
			"A watch was away for so long that the store no longer has what happened in between.",
			"List again, and watch from there; 'weft get --watch' and 'weft wait' do.",
		},
		{
			CodeNodeGone, ExitUnavailable, "The node is not connected.",
			"Its agent does not run, or cannot reach the server. Its packets go on.",
			"'weft describe node NAME' says since when; look at the agent's log there.",
		},
		{
			CodeUnavailable, ExitUnavailable, "No answer now; a later try may succeed.",
			"The server, its store or an agent cannot be reached, or refuses work for a moment. What forwards goes on.",
			"Try again after the time that the answer names; 'weft status' and the server's log say what is missing.",
		},
		{
			CodeInternal, ExitFailure, "A fault of weft.",
			"Something happened that should be impossible.",
			"Find the request's id in the server's log, and report both.",
		},
		{
			CodeBindingTaken, ExitConflict, "The port is attached at another node.",
			"A port is at one node at a time.",
			"Detach it there, or take it over with 'weft attach --move'.",
		},
		{
			CodeWrongNode, ExitConflict, "The port may be attached at another node only.",
			"spec.node of the port names a node, and this is another.",
			"Attach it there, or change spec.node ('weft edit port NAME').",
		},
		{
			CodePrecondition, ExitConflict, "Something must be done first.",
			"A port is attached and would change, a machine cannot be a node yet, no context is chosen: the message says what.",
			"Do what the fix of the error says, and repeat the command.",
		},
		{
			CodeTimeout, ExitUnavailable, "It did not happen in time.",
			"A node has not confirmed, a condition has not come. What was written stays written.",
			"'weft describe' and 'weft status' say what it waits for; give it more --timeout.",
		},
		{
			CodeUnknownMethod, ExitFailure, "The URL exists, and not with this method.",
			"A program sends, for example, POST where PUT is meant.",
			"Look at /openapi.yaml of the server.",
		},
		{
			CodeNodeDrained, ExitConflict, "The node takes no further ports.",
			"It was drained for maintenance.",
			"Attach at another node, or let it take ports again: 'weft node resume NAME'.",
		},
		{
			CodeNodeRemoved, ExitConflict, "The machine was removed from the system.",
			"'weft node remove' (or 'delete node') was said, and its agent still runs or came back.",
			"Join it again: 'weft node join'. It gets another number.",
		},
		{
			CodeTooMany, ExitUnavailable, "More requests than the server takes now.",
			"Each tenant and each operator has a rate, and nobody takes all of a busy server. Clients of weft come again by themselves.",
			"Send it again after what Retry-After says; send many documents in one request: 'weft apply'.",
		},
		{
			CodeNodeAlive, ExitConflict, "The node's agent is connected.",
			"--force takes ports away from a dead node. This one is alive, and would lose running workloads.",
			"Detach the ports, or stop the agent first.",
		},
	}
}
