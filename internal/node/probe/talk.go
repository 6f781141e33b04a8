// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"weft/internal/netns"
)

// Port on which every workload answers, by TCP and UDP.
const Port = 7007

// respond answers in a namespace: by TCP a line with the identity and the hash of what came, by UDP the same for each packet.
func respond(ns, identity string) (stop func(), err error) {
	var l net.Listener
	var c net.PacketConn
	err = netns.Do(ns, func() error {
		var e1, e2 error
		l, e1 = net.Listen("tcp", fmt.Sprintf(":%d", Port))
		c, e2 = net.ListenPacket("udp", fmt.Sprintf(":%d", Port))
		return errors.Join(e1, e2)
	})
	var wg sync.WaitGroup
	stop = func() {
		if l != nil {
			l.Close()
		}
		if c != nil {
			c.Close()
		}
		wg.Wait()
	}
	if err != nil {
		return stop, fmt.Errorf("listen in %s: %w", ns, err)
	}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answerTCP(conn, identity) })
		}
	})
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(reply(identity, buf[:n])), from) // a lost answer is the prober's to notice
		}
	})
	return stop, nil
}

// reply is the answer to data.
func reply(identity string, data []byte) string {
	sum := sha256.Sum256(data)
	return identity + " " + hex.EncodeToString(sum[:8]) + "\n"
}

func answerTCP(conn net.Conn, identity string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(within)) // without it, the peer's time limit does
	data, err := io.ReadAll(io.LimitReader(conn, 16<<20))
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, reply(identity, data)) // a lost answer is the prober's to notice
}

// payload is the canary, repeated up to size bytes.
func payload(canary string, size int) []byte {
	if size <= len(canary) {
		return []byte(canary)
	}
	return []byte(strings.Repeat(canary+" ", size/(len(canary)+1)+1)[:size])
}

// check compares an answer with what was sent and returns who answered.
func check(answer string, sent []byte) (identity string, err error) {
	identity, _, _ = strings.Cut(answer, " ")
	if answer != reply(identity, sent) {
		return identity, fmt.Errorf("%s answered %q: not what was sent", identity, answer)
	}
	return identity, nil
}

func dial(ctx context.Context, ns, network, to string) (net.Conn, error) {
	var conn net.Conn
	err := netns.Do(ns, func() error {
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, network, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(d)
	}
	return conn, err
}

// talkTCP connects, sends, closes its side and reads who answered.
func talkTCP(ctx context.Context, ns string, r Request) (string, error) {
	conn, err := dial(ctx, ns, "tcp", r.To)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	sent := payload(r.Canary, r.Size)
	if _, err := conn.Write(sent); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	return check(line, sent)
}

// talkUDP sends one packet and reads who answered; after a third of the time it tries again.
func talkUDP(ctx context.Context, ns string, r Request) (string, error) {
	conn, err := dial(ctx, ns, "udp", r.To)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	sent, buf := payload(r.Canary, r.Size), make([]byte, 2048)
	for range 3 {
		if _, err := conn.Write(sent); err != nil {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(within / 3)); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		if err == nil {
			return check(string(buf[:n]), sent)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.New("no answer")
}

// piecesPort is where a datagram in pieces comes from.
const piecesPort = 7008

// talkPieces sends the fragments of one datagram as they are, in their order, and reads who answers it.
func talkPieces(ctx context.Context, ns string, r Request) (string, error) {
	to, err := net.ResolveUDPAddr("udp", r.To)
	if err != nil {
		return "", err
	}
	var conn *net.UDPConn
	if err := netns.Do(ns, func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{Port: piecesPort}, to)
		return err
	}); err != nil {
		return "", err
	}
	defer conn.Close()
	gun, err := openGun(ns, r.Frames)
	if err != nil {
		return "", err
	}
	defer gun.close()
	buf := make([]byte, 2048)
	for range 3 {
		for _, f := range r.Frames {
			if err := gun.send(f); err != nil {
				return "", err
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(within / 3)); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		if err == nil {
			return check(string(buf[:n]), payload(r.Canary, r.Size))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.New("no answer")
}
