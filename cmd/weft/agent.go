// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/internal/agent"
	"weft/internal/base/configfile"
	"weft/internal/base/notify"
	"weft/internal/bgp"
	"weft/internal/cli/term"
)

func agentCommand(env *term.Env, version string) *cobra.Command {
	var cfg agent.Config
	var address, speaker string
	var verbose bool
	var file *configfile.File
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node's agent: it brings the server's rows into the kernel",
		Long: `Run the agent of this machine: it connects to a server, joins as a node, and keeps the packet path as the server
wants it. Stopping the agent stops no packet: programs, tables and devices stay.`,
		Example: `  weft agent --server 192.0.2.10:7444 --ca ca.pem --token-file node.token --address 192.0.2.31
  weft agent --server 192.0.2.10:7444 --ca ca.pem --token-file node.token --address 192.0.2.32 --roles edge
  weft agent --config /etc/weft/agent.yaml
  weft agent --config /etc/weft/agent.yaml --check-config
  weft agent --print-default-config > agent.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := configured(cmd, file, func() error {
				err := checkAgent(&cfg, address, speaker)
				if file.ChecksOnly() { // an agent starts without its speaker: what forwards goes on
					err = errors.Join(err, checkSpeaker(cfg.BGPConfig))
				}
				return err
			}); done || err != nil {
				return err
			}
			cfg.Version, cfg.Log, cfg.Manager = version, newLog(verbose), notify.Find()
			ctx, stop := notifyContext(cmd.Context())
			defer stop()
			return agent.Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node", "", "name of the node; default: this machine's, up to the first dot")
	f.StringSliceVar(&cfg.Roles, "roles", []string{"host"}, "what the node does: host, edge")
	f.StringVar(&cfg.Site, "site", "", "data centre of the node")
	f.StringVar(&cfg.Server, "server", "", "host:port of the server's southbound address")
	f.StringVar(&cfg.CAFile, "ca", "/etc/weft/ca.pem", "certificate of the server's authority (ca.pem of its state directory)")
	f.StringVar(&cfg.TokenFile, "token-file", "/etc/weft/node.token", "file with a join token, for the node's first certificate; not read once it has one")
	f.StringVar(&address, "address", "", "underlay address of this node's tunnel end")
	f.IntVar(&cfg.UnderlayMTU, "underlay-mtu", 1500, "MTU of the underlay, bytes; the overlay has 50 less")
	f.DurationVar(&cfg.ScanEvery, "scan-every", time.Minute, "how often to look for what somebody else has changed in the kernel, give or take a quarter")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/weft/agent", "folder of what outlives the agent")
	f.StringVar(&cfg.RunDir, "run-dir", "/run/weft", "folder of agent.sock")
	f.StringVar(&cfg.BPFFS, "bpffs", "", "folder of pinned programs and tables; default: /sys/fs/bpf/weft/NODE")
	f.StringVar(&cfg.BGPConfig, "bgp-config", "", "configuration of this node's BGP speaker (weft bgp --help), which the agent starts, finds again, and never ends")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what a developer wants to know")
	f.StringVar(&speaker, "speaker", "process", "who runs the BGP speaker: the agent, as a process of its own, or the service manager, as the unit weft-bgp")
	file = configfile.Add(cmd, agentConfig)
	cmd.AddCommand(cleanupCommand(env))
	return cmd
}

// checkAgent fills what is left open and says all that is wrong.
func checkAgent(cfg *agent.Config, address, speaker string) error {
	var wrong []error
	cfg.Node = cmp.Or(cfg.Node, defaultNode())
	cfg.BPFFS = cmp.Or(cfg.BPFFS, "/sys/fs/bpf/weft/"+cfg.Node)
	if cfg.Server == "" {
		wrong = append(wrong, errors.New("--server is required: HOST:PORT of the server's southbound address"))
	} else {
		wrong = append(wrong, hostPort("server", cfg.Server, "192.0.2.10:7444"))
	}
	var err error
	if cfg.Address, err = netip.ParseAddr(address); err != nil {
		wrong = append(wrong, fmt.Errorf("--address must be this node's underlay address, for example 192.0.2.31: %w", err))
	} else {
		node := &v1.Node{
			TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindNode}, Metadata: v1.Metadata{Name: cfg.Node}, Spec: v1.NodeSpec{Address: cfg.Address, Roles: cfg.Roles, Site: cfg.Site},
		}
		for _, e := range node.Validate() {
			wrong = append(wrong, fmt.Errorf("%w: %s", e, e.Fix))
		}
	}
	if cfg.SpeakerUnit = speaker == "unit"; !cfg.SpeakerUnit && speaker != "process" {
		wrong = append(wrong, fmt.Errorf("--speaker: %s runs no speaker; use process or unit", speaker))
	}
	if cfg.ScanEvery <= 0 {
		wrong = append(wrong, fmt.Errorf("--scan-every: %s is no time to wait; use for example 1m", cfg.ScanEvery))
	}
	return errors.Join(wrong...)
}

// checkSpeaker says what is wrong with the configuration of the node's BGP speaker, if it has one.
func checkSpeaker(path string) error {
	if path == "" {
		return nil
	}
	_, err := bgp.LoadConfig(path)
	return err
}
