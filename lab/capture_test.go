// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func TestCaptureIsAPcapOfWhatPassed(t *testing.T) {
	l := testLab(t, labFor("cap"))
	p := makePlan(l.Topology)
	from, to := p.node("host-1").loopback, p.node("host-2").loopback
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		_, err := l.Capture(ctx, CaptureConfig{Target: "host-2", Out: &out, Count: 1})
		done <- err
	}()
	for waiting := true; waiting; {
		if err := reply(t, l.netNS("host-1"), l.netNS("host-2"), from, to); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		default: // it may not have begun
		}
	}
	r, err := pcapgo.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := r.ReadPacketData()
	if err != nil {
		t.Fatal(err)
	}
	if layer := gopacket.NewPacket(data, r.LinkType(), gopacket.Default).Layer(layers.LayerTypeEthernet); layer == nil {
		t.Errorf("no Ethernet in %x", data)
	}
	if age := time.Since(info.Timestamp); age < 0 || age > time.Minute {
		t.Errorf("packet is %s old", age)
	}
	for _, target := range []string{"host-9", "red/web-1", "host-1:eth9"} { // the underlay alone has no workloads
		if _, err := l.Capture(ctx, CaptureConfig{Target: target, Out: &out}); err == nil || (target != "host-1:eth9" && !errors.Is(err, ErrTarget)) {
			t.Errorf("capture of %s: %v", target, err)
		}
	}
}
