// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// askWithin is how long the agent, or the way to its server, may take to answer.
const askWithin = 3 * time.Second

// checkAgent asks the agent of a node how it is, and where it has no server, why.
func checkAgent(ctx context.Context, m *machine) []Finding {
	if m.agent == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	st, err := client.NewAgent(filepath.Join(m.RunDir, "agent.sock")).Status(ctx)
	if err != nil {
		return fail(fmt.Sprintf("this machine is node %s, and no agent answers: nothing is attached or changed, nobody answers DHCP; packets go on", m.agent.Node), "systemctl start weft-agent; why it ended: journalctl -u weft-agent", "")
	}
	return append(m.judgeAgent(ctx, st), judgeErrors(st)...)
}

func (m *machine) judgeAgent(ctx context.Context, st *v1.AgentStatus) []Finding {
	switch {
	case st.Removed != "":
		return fail(fmt.Sprintf("node %s was removed from the system: %s", st.Node, st.Removed), "join it again, with the line of 'weft node token'", "")
	case st.Connected && st.Synced:
		return ok(fmt.Sprintf("node %s is connected, and has its %d rows in effect", st.Node, st.Rows))
	case st.Connected:
		return warn(fmt.Sprintf("node %s is connected, and waits for its rows", st.Node), "look again in some seconds; then at the server's log", "")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.agent.Server)
	if err != nil {
		return fail(fmt.Sprintf("node %s has no server: %v", st.Node, err), "check that the server runs, and that TCP port 7444 is open on the way to it", "")
	}
	c.Close()
	return fail(fmt.Sprintf("node %s has no server, though %s takes connections: it is another one, or does not know this node", st.Node, m.agent.Server), "journalctl -u weft-agent says why; join it again if its certificate ended", "")
}

func judgeErrors(st *v1.AgentStatus) []Finding {
	if len(st.Errors) == 0 {
		return nil
	}
	return warn(fmt.Sprintf("the node is degraded: %s", strings.Join(st.Errors[:min(len(st.Errors), 3)], "; ")), "see docs/operate/agent.md, Degraded", "")
}
