// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/internal/base/privtest"
)

// pages are run one after the other, on the same machines.
var pages = []string{"install.md", "backup.md", "upgrade.md", "uninstall.md"}

// firstPingMost is how long it may take from the package to the first ping.
const firstPingMost = 5 * time.Minute

// site is the machines, and the packages that they are given.
type site struct {
	machines     map[string]*machine
	shared       string // folder that all see as /mnt
	older, newer string // packages in it
}

func TestOperatorsPages(t *testing.T) {
	privtest.Require(t)
	s := newSite(t)
	s.machines["node-2"].run(t, unitOfJoin)
	began := time.Now()
	s.play(t, "install.md")
	took := time.Since(began)
	t.Logf("from the package to the first ping: %.1f s", took.Seconds())
	if took > firstPingMost {
		t.Errorf("the first ping took %s, bar %s", took, firstPingMost)
	}
	var others sync.WaitGroup // the newer package is built beside what mostly waits
	var err error
	dir := t.TempDir()
	others.Go(func() {
		var program string
		if program, err = compile(dir, newerVersion); err == nil {
			s.newer, err = pack(program, s.shared, newerVersion)
		}
	})
	defer others.Wait()
	s.checkUnits(t)
	s.startSpeakers(t)
	s.checkRights(t)
	speaker := s.checkSpeaker(t, "")
	s.checkStop(t)
	s.underTraffic(t, "backup.md")
	if others.Wait(); err != nil {
		t.Fatal(err)
	}
	s.upgrade(t)
	s.checkSpeaker(t, speaker)
	s.play(t, "uninstall.md")
	for name, m := range s.machines {
		if left := m.left(t); left != "" {
			t.Errorf("left on %s:\n%s", name, left)
		}
	}
}

// newSite builds a package, and boots three machines at one switch.
func newSite(t *testing.T) *site {
	t.Helper()
	shared := t.TempDir()
	s := &site{machines: make(map[string]*machine)}
	older, err := os.Getenv("WEFT_BIN"), error(nil)
	if older == "" {
		older, err = compile(t.TempDir(), "v0.1.0")
	}
	if err == nil {
		s.older, err = pack(older, shared, "v0.1.0")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.shared = shared
	sw := fmt.Sprintf("wefttest-%d-switch", os.Getpid())
	host(t, "ip", "netns", "add", sw)
	t.Cleanup(func() { host(t, "ip", "netns", "delete", sw) })
	host(t, "ip", "-n", sw, "link", "add", "br0", "type", "bridge")
	host(t, "ip", "-n", sw, "link", "set", "br0", "up")
	for i, name := range machineNames {
		m := boot(t, name, shared, sw, []string{"192.0.2.10", "192.0.2.31", "192.0.2.32"}[i])
		s.machines[name] = m
		m.give(t, s.older)
	}
	return s
}

// newerVersion is what programs of the newer package say.
const newerVersion = "v0.2.0"

// compile builds the program as one of a version.
func compile(dir, version string) (program string, err error) {
	program = filepath.Join(dir, "weft")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", program, "weft/cmd/weft")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return program, nil
}

// pack makes a package of a program.
func pack(program, dir, version string) (name string, err error) {
	deb := exec.Command("go", "run", "./deb", "-root", "..", "-binary", program, "-out", dir, "-version", version, "-time", "1000000000")
	deb.Dir = "../../tools"
	var said bytes.Buffer
	deb.Stderr = &said
	out, err := deb.Output()
	if err != nil {
		return "", fmt.Errorf("package: %w\n%s", err, said.String())
	}
	return filepath.Base(strings.TrimSpace(string(out))), nil
}

// give makes a package the one that lies in root's folder.
func (m *machine) give(t *testing.T, deb string) {
	t.Helper()
	m.run(t, "rm -f weft_*.deb; ln -s /mnt/"+deb+" .")
}

// play runs the blocks of a page.
func (s *site) play(t *testing.T, page string) {
	t.Helper()
	for _, b := range blocks(t, page) {
		began := time.Now()
		printed := make([]string, len(b.machines))
		var wg sync.WaitGroup
		for i, name := range b.machines {
			m := s.machines[name]
			if b.older {
				m.give(t, s.older)
			}
			wg.Go(func() { printed[i] = m.block(t, b) })
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for _, name := range b.printFor {
			wg.Go(func() { s.machines[name].block(t, block{page: b.page, line: b.line, text: printed[0]}) })
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		t.Logf("%s:%d  %v  %.2f s", page, b.line, b.machines, time.Since(began).Seconds())
	}
}

// block runs one of a page.
func (m *machine) block(t *testing.T, b block) string {
	out, errs, err := m.try(b.text)
	var exit *exec.ExitError
	if errors.As(err, &exit) && b.mayExit != 0 && exit.ExitCode() == b.mayExit {
		err = nil
	}
	if err != nil {
		journal, _, _ := m.try("journalctl --no-pager -n 60 -o cat")
		t.Errorf("docs/operate/%s:%d on %s: %v\n%s\nprinted: %s\nand: %s\njournal:\n%s", b.page, b.line, m.name, err, b.text, out, errs, journal)
	}
	return out
}

// exposureMost is what 'systemd-analyze security' may say of a unit.
var exposureMost = map[string]float64{"weft-server": 4.0, "weft-agent": 6.0, "weft-bgp": 6.0}

// unitOfJoin leaves a unit as 'weft node join' writes one where there is no package. The package's has to come in its place.
const unitOfJoin = `
	cat > /etc/systemd/system/weft-agent.service <<-END
	# Written by 'weft node join'.
	[Service]
	ExecStart=/usr/local/bin/weft agent --config /etc/weft/agent.yaml
	[Install]
	WantedBy=multi-user.target
	END
	systemctl -q enable weft-agent`

// checkUnits holds the units to what systemd says of them.
func (s *site) checkUnits(t *testing.T) {
	t.Helper()
	if unit := s.machines["node-2"].run(t, "systemctl show -p FragmentPath --value weft-agent; systemctl is-enabled weft-agent"); unit != "/lib/systemd/system/weft-agent.service\nenabled\n" {
		t.Errorf("the agent's unit is %s", unit)
	}
	m := s.machines["node-1"]
	m.run(t, "systemd-analyze verify --man=no /usr/lib/systemd/system/weft-*.service")
	for unit, most := range exposureMost {
		text := m.run(t, "systemd-analyze security --no-pager "+unit+".service | grep Overall")
		var exposure float64
		if _, err := fmt.Sscanf(regexp.MustCompile(`[0-9.]+ [A-Z]`).FindString(text), "%f", &exposure); err != nil || exposure > most {
			t.Errorf("%s: exposure %.1f, bar %.1f (%s)", unit, exposure, most, strings.TrimSpace(text))
		}
		t.Logf("%s: exposure %.1f", unit, exposure)
	}
}

// traffic is a stream of pings from node-1's workload to node-2's, and back.
type traffic struct {
	cmd  *exec.Cmd
	out  strings.Builder
	stop context.CancelFunc
}

func (s *site) startTraffic(t *testing.T) *traffic {
	t.Helper()
	w := &traffic{}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	w.cmd = s.machines["node-1"].command(ctx, "exec ip netns exec web ping -q -n -i 0.002 10.0.2.4")
	w.cmd.Cancel = func() error { return w.cmd.Process.Kill() }
	w.cmd.Stdout = &w.out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// end ends the stream by its own rules, and says how many packets were sent and lost.
func (s *site) end(t *testing.T, w *traffic) (sent, lost int) {
	t.Helper()
	s.machines["node-1"].run(t, "kill -INT $(pidof ping)")
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("ping: %v\n%s", err, w.out.String())
	}
	w.stop()
	var received int
	for line := range strings.Lines(w.out.String()) {
		if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &received); err == nil {
			return sent, sent - received
		}
	}
	t.Fatalf("ping says nothing: %s", w.out.String())
	return 0, 0
}

// startSpeakers lets the nodes speak BGP with each other. Their agents look after the units, and start no speaker of their own.
func (s *site) startSpeakers(t *testing.T) {
	t.Helper()
	for _, n := range []struct{ name, own, peer, relation string }{{"node-1", "31", "32", "provider"}, {"node-2", "32", "31", "customer"}} {
		s.machines[n.name].run(t, fmt.Sprintf(`
			cat > /etc/weft/bgp.yaml <<-END
			as: 42000000%[1]s
			routerID: 192.0.2.%[1]s
			announce: [198.19.0.%[1]s/32]
			peers: [{address: 192.0.2.%[2]s, as: 42000000%[2]s, relation: %[3]s, bfd: true}]
			END
			ip addr add 198.19.0.%[1]s/32 dev lo
			echo 'bgpConfig: /etc/weft/bgp.yaml' >> /etc/weft/agent.yaml
			systemctl -q enable --now weft-bgp
			systemctl restart weft-agent`, n.own, n.peer, n.relation))
	}
}

// checkSpeaker looks whether the speaker of node-1 is there, is still the one of before, has its routes, and is the only one.
func (s *site) checkSpeaker(t *testing.T, before string) (pid string) {
	t.Helper()
	pid = s.machines["node-1"].run(t, `
		for i in $(seq 100); do [ -n "$(ip route show 198.19.0.32 proto 119)" ] && break; sleep 0.1; done
		[ -n "$(ip route show 198.19.0.32 proto 119)" ]
		[ $(pgrep -cf '^/usr/bin/weft bgp') = 1 ]
		systemctl show -p MainPID --value weft-bgp`)
	if before != "" && pid != before {
		t.Errorf("the speaker is another process now: %s, was %s", pid, before)
	}
	return pid
}

// checkRights tries what needs rights that the units might have taken away.
func (s *site) checkRights(t *testing.T) {
	t.Helper()
	s.machines["server"].run(t, "weft check --group reach,service,dhcp")
	s.machines["node-1"].run(t, `
		unshare --net setpriv --reuid=65534 --clear-groups sleep 60 >/dev/null 2>&1 & other=$!
		until [ "$(stat -c %u /proc/$other)" = 65534 ]; do sleep 0.05; done
		weft attach red/web-2 --netns /proc/$other/ns/net
		weft detach red/web-2
		kill $other
		weft attach red/web-3 --tap tap0
		weft detach red/web-3
		weft doctor || [ $? = 1 ]`)
}

// checkStop: an agent that is stopped, killed or hangs loses no packet, and comes back.
func (s *site) checkStop(t *testing.T) {
	t.Helper()
	m := s.machines["node-1"]
	m.run(t, `
		mkdir /run/systemd/system/weft-agent.service.d
		printf '[Service]\nWatchdogSec=1\n' > /run/systemd/system/weft-agent.service.d/hang.conf
		systemctl daemon-reload`)
	w := s.startTraffic(t)
	m.run(t, "systemctl stop weft-agent; test -d /sys/fs/bpf/weft/node-1/links; systemctl start weft-agent")
	for _, signal := range []string{"KILL", "STOP"} { // the second: its watchdog ends it
		m.run(t, `
			was=$(systemctl show -p MainPID --value weft-agent)
			kill -`+signal+` $was
			for i in $(seq 100); do
				now=$(systemctl show -p MainPID --value weft-agent)
				[ $now != $was ] && [ $now != 0 ] && systemctl -q is-active weft-agent && exit 0
				sleep 0.1
			done
			exit 1`)
	}
	m.run(t, "rm -r /run/systemd/system/weft-agent.service.d; systemctl daemon-reload; journalctl -u weft-agent -o cat | grep \"result 'watchdog'\"")
	if sent, lost := s.end(t, w); lost != 0 || sent < 100 {
		t.Errorf("an agent that is stopped, started and killed: %d of %d packets were lost", lost, sent)
	}
}

// underTraffic plays a page while packets pass, of which none may be lost.
func (s *site) underTraffic(t *testing.T, page string) {
	t.Helper()
	w := s.startTraffic(t)
	s.play(t, page)
	sent, lost := s.end(t, w)
	t.Logf("%s: %d of %d packets lost", page, lost, sent)
	if lost != 0 || sent < 100 {
		t.Errorf("%s: %d of %d packets were lost", page, lost, sent)
	}
}

// upgrade gives all machines the newer package, and node-1 the older one again.
func (s *site) upgrade(t *testing.T) {
	t.Helper()
	for _, m := range s.machines {
		m.give(t, s.newer)
	}
	s.underTraffic(t, "upgrade.md")
	for name, newer := range map[string]bool{"node-1": false, "node-2": true} {
		status := s.machines[name].run(t, "curl -s --unix-socket /run/weft/agent.sock http://agent/v1/status")
		if strings.Contains(status, `"version":"`+newerVersion+`"`) != newer {
			t.Errorf("%s runs the newer build: want %v; %s", name, newer, status)
		}
	}
}

// left lists what of weft is on a machine.
func (m *machine) left(t *testing.T) string {
	t.Helper()
	return m.run(t, `
		ip -o link | grep -E ' (weft-|wp[0-9a-f]{12})' || true
		ip route show proto 119; ip -6 route show proto 119
		ls -d /etc/weft /var/lib/weft /run/weft /sys/fs/bpf/weft /usr/bin/weft 2>/dev/null || true
		find /etc /usr/bin /usr/lib/systemd /var/lib /run -name '*weft*' ! -path '/run/systemd/*' ! -path '/run/log/*' ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' 2>/dev/null || true
		getent passwd weft || true; getent group weft || true
		systemctl list-units --all --no-legend --plain 'weft*' || true
		dpkg -l weft 2>/dev/null | grep -v '^.n' | grep ' weft ' || true
		pgrep -a weft || true`)
}
