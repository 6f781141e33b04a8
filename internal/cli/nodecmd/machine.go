// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
)

// What a machine must have.
const (
	kernelMajor, kernelMinor = 6, 6
	bpffsRoot                = "/sys/fs/bpf"
	bpffsMagic               = 0xcafe4a11
	tunnelPort               = 4789 // VXLAN
	mtuLeast                 = 1280
)

// checkMachine refuses a machine that cannot be a node. What weft's own agent left or uses is no hindrance.
func (j *joining) checkMachine(agentRuns bool) error {
	if os.Geteuid() != 0 {
		return unfit("the agent works with eBPF and network devices, which need root", "run the command as root, for example with sudo")
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return fmt.Errorf("look at the kernel: %w", err)
	}
	if err := checkKernel(strings.TrimSpace(string(release))); err != nil {
		return err
	}
	if err := checkBPFFS(bpffsRoot); err != nil {
		return err
	}
	own := agentRuns
	if _, err := net.InterfaceByName("weft-vx"); err == nil {
		own = true
	}
	if own {
		j.tell("kernel %s, root, bpffs: fit", strings.TrimSpace(string(release)))
		return nil
	}
	if err := checkTunnelPort(); err != nil {
		return err
	}
	j.tell("kernel %s, root, bpffs, UDP port %d: fit", strings.TrimSpace(string(release)), tunnelPort)
	return nil
}

func unfit(message, fix string) error {
	return &v1.Error{Code: v1.CodePrecondition, Message: "this machine cannot be a node: " + message, Fix: fix}
}

// checkKernel reads a release such as 6.6.30-amd64.
func checkKernel(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return unfit(fmt.Sprintf("its kernel's release %q cannot be read", release), "")
	}
	if major < kernelMajor || major == kernelMajor && minor < kernelMinor {
		return unfit(fmt.Sprintf("its kernel is %s", release), fmt.Sprintf("install kernel %d.%d or newer", kernelMajor, kernelMinor))
	}
	return nil
}

// checkBPFFS mounts the file system of pinned programs where nobody did yet.
func checkBPFFS(root string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(root, &st); err != nil {
		return unfit(fmt.Sprintf("%s: %v", root, err), "boot a kernel with eBPF (CONFIG_BPF_SYSCALL)")
	}
	if uint32(st.Type) == bpffsMagic { //nolint:gosec // the field's width differs between architectures; the number has 32 bits
		return nil
	}
	if err := syscall.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		return unfit(fmt.Sprintf("no BPF file system is mounted at %s, and none can be: %v", root, err), "mount -t bpf bpf "+root)
	}
	return nil
}

// checkTunnelPort finds another user of the tunnel's port.
func checkTunnelPort() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: tunnelPort})
	if errors.Is(err, syscall.EADDRINUSE) {
		return unfit(fmt.Sprintf("UDP port %d, which tunnels use, is in use", tunnelPort), "look for another VXLAN device (ip -d link show type vxlan) or program (ss -ulnp), and take it away")
	}
	if err != nil {
		return unfit(fmt.Sprintf("UDP port %d: %v", tunnelPort, err), "")
	}
	return c.Close()
}

// underlayDevice is what decides the underlay's MTU.
type underlayDevice struct {
	mtu          int
	loopback, up bool
	addresses    []netip.Addr
}

// underlayMTU is the MTU of the device with the tunnel's address; where that is a loopback, packets may leave by any device
// that has an address, and the smallest MTU counts.
func underlayMTU(address netip.Addr, devices []underlayDevice) (int, error) {
	least, own := 0, 0
	for _, d := range devices {
		has := slices.Contains(d.addresses, address)
		if has {
			own = d.mtu
		}
		if has && !d.loopback {
			return checkMTU(d.mtu)
		}
		if !d.loopback && d.up && len(d.addresses) > 0 && (least == 0 || d.mtu < least) {
			least = d.mtu
		}
	}
	if own == 0 {
		return 0, unfit(fmt.Sprintf("no device has the tunnel's address %s", address), "name one of this machine's own with --address")
	}
	return checkMTU(least)
}

func checkMTU(mtu int) (int, error) {
	if mtu < mtuLeast {
		return 0, unfit(fmt.Sprintf("the underlay's MTU is %d, and has to be at least %d", mtu, mtuLeast), "raise the MTU of the device, or name it with --underlay-mtu")
	}
	return mtu, nil
}

// fetchAuthority gets the server's authority from the server itself, and believes it only if it has the right hash.
func fetchAuthority(ctx context.Context, server, hash string) ([]byte, error) {
	host, _, _ := net.SplitHostPort(server) // checked before
	d := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // what verifies is the hash, below
		NextProtos:         []string{"h2"}, MinVersion: tls.VersionTLS13, ServerName: host,
	}}
	c, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, &v1.Error{Code: v1.CodeUnavailable, Message: fmt.Sprintf("no answer from %s: %v", server, err), Fix: "check that the server runs, and that its --southbound-listen is an address that this machine reaches"}
	}
	defer c.Close()
	chain := c.(*tls.Conn).ConnectionState().PeerCertificates
	shown := "none"
	for _, cert := range chain {
		sum := sha256.Sum256(cert.Raw)
		text := "sha256:" + hex.EncodeToString(sum[:])
		if cert.IsCA {
			shown = text
		}
		if !strings.EqualFold(text, hash) || !cert.IsCA {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: clock.Now()}); err != nil {
			return nil, &v1.Error{Code: v1.CodeUnauthorized, Message: fmt.Sprintf("the certificate of %s is not to be trusted: %v", server, err), Fix: "use the address of 'weft node token', or start the server with --name " + host}
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), nil
	}
	return nil, &v1.Error{
		Code: v1.CodeUnauthorized, Message: fmt.Sprintf("%s is not the server that --ca-hash names: its authority is %s", server, shown),
		Fix: "take the command from 'weft node token' again; if it is the same, somebody stands between this machine and the server",
	}
}
