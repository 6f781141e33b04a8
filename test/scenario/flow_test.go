// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"weft/lab/traffic"
)

// forgery is datagrams that must not arrive, sent without pause and counted at both ends. Each end is a helper that goes on
// until its standard input ends, and then tells its count.
type forgery struct {
	name     string
	from, to *end
}

type end struct {
	cmd  *exec.Cmd
	in   io.Closer
	said *bufio.Reader
}

const (
	perMillisecond = 4                      // datagrams
	lastWait       = 500 * time.Millisecond // for what is on its way
	roomAtReceiver = 32 << 20               // bytes, for what comes while the receiver does not run
)

// forge begins to send from a workload with any source to an address of the workload to.
func (s *story) forge(from, source, to, address string, port int) (*forgery, error) {
	f := &forgery{name: fmt.Sprintf("%s as %s to %s", from, source, to)}
	var err error
	if f.to, err = s.startEnd(to, "count", fmt.Sprint(port)); err != nil {
		return nil, err
	}
	f.from, err = s.startEnd(from, "send", source, address, fmt.Sprint(port))
	return f, err
}

func (s *story) startEnd(workload, what string, args ...string) (*end, error) {
	cmd := s.helper(what, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.l.Start(cmd, workload); err != nil {
		return nil, err
	}
	e := &end{cmd, in, bufio.NewReader(out)}
	if _, err := e.said.ReadString('\n'); err != nil { // it is ready
		return nil, fmt.Errorf("%s of %s: %w", what, workload, err)
	}
	return e, nil
}

// stop returns how many datagrams an end has seen.
func (e *end) stop() (n uint64, err error) {
	err = e.in.Close()
	if _, serr := fmt.Fscanln(e.said, &n); serr != nil {
		err = errors.Join(err, serr)
	}
	return n, errors.Join(err, e.cmd.Wait())
}

// stop ends it and returns how many were sent and how many arrived.
func (f *forgery) stop() (sent, arrived uint64, err error) {
	sent, err = f.from.stop()
	arrived, err2 := f.to.stop()
	if err = errors.Join(err, err2); err != nil {
		err = fmt.Errorf("%s: %w", f.name, err)
	}
	return sent, arrived, err
}

// send sends numbered datagrams with any source.
func send(source, address, port string) error {
	from, err := netip.ParseAddr(source)
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(address + ":" + port)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	src, dst := from.As4(), to.Addr().As4()
	p := make([]byte, 20+8+8) // the kernel fills the IP header's length and checksum
	p[0], p[8], p[9] = 0x45, 64, syscall.IPPROTO_UDP
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], to.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], 16)
	stopped := stdinEnded()
	fmt.Println("ready")
	n := uint64(0)
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-stopped:
			fmt.Println(n)
			return nil
		case <-tick.C:
		}
		for range perMillisecond {
			binary.BigEndian.PutUint64(p[28:], n)
			if err := syscall.Sendto(fd, p, 0, &syscall.SockaddrInet4{Addr: dst}); err != nil {
				return err
			}
			n++
		}
	}
}

// count counts the datagrams that arrive at a port, each number once.
func count(port string) error {
	c, err := net.ListenPacket("udp4", "0.0.0.0:"+port)
	if err != nil {
		return err
	}
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, roomAtReceiver)
	})
	if err := errors.Join(err, serr); err != nil {
		return err
	}
	stopped := stdinEnded()
	go func() {
		<-stopped
		_ = c.SetReadDeadline(time.Now().Add(lastWait))
	}()
	fmt.Println("ready")
	seen := make(map[uint64]bool)
	for buf := make([]byte, 64); ; {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			break // the deadline
		}
		if n == 8 {
			seen[binary.BigEndian.Uint64(buf)] = true
		}
	}
	fmt.Println(len(seen))
	return nil
}

func stdinEnded() <-chan struct{} {
	c := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(c)
	}()
	return c
}

// flows are what passes, and what must not.
type flows struct {
	good   []*traffic.Flow
	forged []*forgery
}

// startFlows lets all kinds of ways of host-1 carry packets, in both directions and IP versions, and sends what must not
// pass: as a neighbour, and from one tenant to an address of another.
func (s *story) startFlows() (*flows, error) {
	fs := &flows{}
	for _, f := range []struct {
		a, b string
		ipv6 bool
	}{
		{"red/web-1", "red/web-3", false}, // the same host
		{"red/web-1", "red/web-2", true},  // another
		{"red/web-3", "red/db-1", false},  // routed, and another
	} {
		a, err := s.l.End(f.a, f.ipv6)
		b, err2 := s.l.End(f.b, f.ipv6)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		flow, err := traffic.Start(a, b, 2000)
		if err != nil {
			return nil, err
		}
		fs.good = append(fs.good, flow)
	}
	for i, source := range []string{"red/web-1 10.0.1.5", "blue/web-1 10.0.1.4"} {
		from, address, _ := strings.Cut(source, " ")
		f, err := s.forge(from, address, "red/web-3", "10.0.1.6", 7801+i)
		if err != nil {
			return nil, err
		}
		fs.forged = append(fs.forged, f)
	}
	return fs, nil
}

// stop ends all flows and says what was lost and what went through.
func (fs *flows) stop() (told string, err error) {
	var sent, lost, forged uint64
	var errs []error
	for _, r := range traffic.Stop(fs.good) {
		for _, c := range []traffic.Count{r.There, r.Back} {
			sent, lost = sent+c.Sent, lost+c.Lost
			if c.Lost+c.Duplicated+c.Refused > 0 {
				errs = append(errs, fmt.Errorf("%+v", c))
			}
		}
	}
	for _, f := range fs.forged {
		n, through, err := f.stop()
		errs = append(errs, err)
		forged += n
		if through > 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d went through", f.name, through, n))
		}
	}
	return fmt.Sprintf("%d packets, %d lost; %d forged", sent, lost, forged), errors.Join(errs...)
}
