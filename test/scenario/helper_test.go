// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"weft/lab"
)

// Ports of the helpers, UDP.
const (
	echoPort = 7777
	askFor   = 300 * time.Millisecond // how long an answer may take
)

// help is what this program does inside a workload.
func help(what string, args []string) int {
	var err error
	switch what {
	case "echo":
		err = echo(args[0])
	case "ask":
		err = ask(args)
	case "spoof":
		err = spoof(args[0], args[1])
	case "fragments":
		err = fragments(args[0])
	case "up":
		err = up(args[0])
	case "send":
		err = send(args[0], args[1], args[2])
	case "count":
		err = count(args[0])
	default:
		err = fmt.Errorf("no helper %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo answers every datagram with its own name, until it is killed.
func echo(name string) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: echoPort})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		_, _ = c.WriteToUDPAddrPort([]byte(name), from) // the asker may be out of reach
	}
}

// ask asks every address who it is and prints "ADDRESS NAME" for each answer.
func ask(addresses []string) error {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		to, err := netip.ParseAddr(a)
		if err != nil {
			return err
		}
		_, _ = c.WriteToUDPAddrPort([]byte("?"), netip.AddrPortFrom(to, echoPort)) // may be out of reach
	}
	var answers []string
	buf := make([]byte, 256)
	_ = c.SetReadDeadline(time.Now().Add(askFor))
	for len(answers) < len(addresses) {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // of the socket itself
			break
		}
		if err == nil { // otherwise an ICMP error
			answers = append(answers, from.Addr().Unmap().String()+" "+string(buf[:n]))
		}
	}
	slices.Sort(answers)
	fmt.Println(strings.Join(answers, "\n"))
	return nil
}

// spoof sends a datagram with a false source.
func spoof(from, to string) error {
	src, dst := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	p := make([]byte, 28)
	p[0], p[8], p[9] = 0x45, 64, syscall.IPPROTO_UDP // the kernel fills length and checksum
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], echoPort)
	binary.BigEndian.PutUint16(p[22:], echoPort)
	binary.BigEndian.PutUint16(p[24:], 8)
	return syscall.Sendto(fd, p, 0, &syscall.SockaddrInet4{Addr: dst})
}

// up brings a whole lab up, for a test that kills it.
func up(name string) error {
	topology, err := lab.LoadTopology("")
	if err != nil {
		return err
	}
	_, err = lab.Up(context.Background(), lab.UpConfig{Name: name, Topology: topology, Binary: os.Getenv("WEFT_BIN"), Progress: os.Stderr})
	return err
}
