// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/base/configfile"
	"weft/internal/base/notify"
	"weft/internal/identity"
	"weft/internal/server"
)

// listenFD is the first descriptor that a parent hands over (sd_listen_fds(3)).
const listenFD = 3

func serverCommand(version string) *cobra.Command {
	var cfg server.Config
	var api, southbound string
	var verbose bool
	var roles []string
	var file *configfile.File
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the server: API, controllers and the nodes' stream",
		Long: `Run the server: it keeps what users want (in etcd, its own by default), computes what each node must do, and
streams it to the nodes. It can be stopped and started at any time; nodes forward without it.

At the first start it makes, in its state directory: ca.pem (give it to clients and nodes), admin.token (opens the
API) and node.token (the first join token: it lets machines become nodes for a day; 'weft node token' makes others).`,
		Example: `  weft server --southbound-listen 192.0.2.10:7444
  weft server --etcd-endpoints https://192.0.2.21:2379,https://192.0.2.22:2379 --etcd-ca etcd-ca.pem --etcd-cert weft.pem --etcd-key weft.key
  weft server --oidc-issuer https://login.example.org --oidc-audience weft --oidc-role groups=net-ops:admin,groups=red-team:tenant-admin/red
  weft server --config /etc/weft/server.yaml
  weft server --config /etc/weft/server.yaml --check-config
  weft server --print-default-config > server.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if done, err := configured(cmd, file, func() error {
				return errors.Join(checkServer(cfg, api, southbound), readRoles(&cfg.OIDC, roles))
			}); done || err != nil {
				return err
			}
			var err error
			if cfg.API, err = apiListener(api); err != nil {
				return err
			}
			if cfg.Southbound, err = net.Listen("tcp", southbound); err != nil {
				return fmt.Errorf("listen for nodes (--southbound-listen): %w", err)
			}
			cfg.Names = certificateNames(cfg.Names, api, southbound)
			cfg.Version, cfg.Log, cfg.Manager = version, newLog(verbose), notify.Find()
			ctx, stop := notifyContext(cmd.Context())
			defer stop()
			return server.Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/weft/server", "folder of authority, tokens and the embedded etcd")
	f.StringVar(&api, "listen", "127.0.0.1:7443", "address of API and OpenAPI; a socket handed over by LISTEN_FDS goes before it")
	f.StringVar(&southbound, "southbound-listen", "127.0.0.1:7444", "address that the nodes' agents connect to")
	f.StringSliceVar(&cfg.Names, "name", nil, "further host name or address that the server's certificate is for")
	f.StringSliceVar(&cfg.EtcdEndpoints, "etcd-endpoints", nil, "addresses of an etcd to use instead of the embedded one")
	f.StringVar(&cfg.Etcd.CAFile, "etcd-ca", "", "authority of that etcd's certificates (https)")
	f.StringVar(&cfg.Etcd.CertFile, "etcd-cert", "", "certificate that the server shows to etcd; it is read for each connection")
	f.StringVar(&cfg.Etcd.KeyFile, "etcd-key", "", "key of that certificate")
	f.BoolVar(&cfg.Etcd.Plain, "etcd-plaintext", false, "take an etcd on another machine by http: whoever is on the way can read and change everything")
	f.DurationVar(&cfg.CertificateLife, "certificate-life", 0, "how long the server's certificate is good; it is made anew, without a restart, after two thirds of that (default a year)")
	f.DurationVar(&cfg.NodeLife, "node-certificate-life", 0, "how long a node's certificate is good; nodes renew theirs after two thirds of that (default 24h)")
	f.DurationVar(&cfg.NodeGrace, "node-certificate-grace", 0, "for how long after its end a node's certificate still renews itself; after that the machine is joined again (default 168h)")
	f.Float64Var(&cfg.TenantRequests, "tenant-requests", 0, "requests a second that each tenant may make, twice as many at once (default 50)")
	f.StringVar(&cfg.OIDC.Issuer, "oidc-issuer", "", "URL of an identity provider (OpenID Connect) whose people may use the API")
	f.StringVar(&cfg.OIDC.Audience, "oidc-audience", "", "this system's name at the provider (client ID); tokens for others are refused")
	f.StringVar(&cfg.OIDC.Username, "oidc-username", "", "claim with a person's name (default email, or else sub)")
	f.StringSliceVar(&roles, "oidc-role", nil, "who has which role, CLAIM=VALUE:ROLE or CLAIM=VALUE:ROLE/TENANT; the first that fits counts")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what a developer wants to know")
	file = configfile.Add(cmd, serverConfig)
	return cmd
}

// checkServer says all that is wrong with a server's settings.
func checkServer(cfg server.Config, api, southbound string) error {
	wrong := []error{
		hostPort("listen", api, "127.0.0.1:7443"), hostPort("southbound-listen", southbound, "192.0.2.10:7444"), cfg.Etcd.Check(cfg.EtcdEndpoints),
	}
	if cfg.TenantRequests < 0 {
		wrong = append(wrong, fmt.Errorf("--tenant-requests: %g is less than none; 0 is the default", cfg.TenantRequests))
	}
	if cfg.StateDir == "" {
		wrong = append(wrong, errors.New("--state-dir is required: the server keeps its authority and tokens there"))
	}
	for _, d := range []struct {
		flag string
		life time.Duration
	}{{"certificate-life", cfg.CertificateLife}, {"node-certificate-life", cfg.NodeLife}, {"node-certificate-grace", cfg.NodeGrace}} {
		if d.life < 0 {
			wrong = append(wrong, fmt.Errorf("--%s: %s is in the past", d.flag, d.life))
		}
	}
	return errors.Join(wrong...)
}

// readRoles reads who of an identity provider's people has which role.
func readRoles(o *identity.OIDC, roles []string) error {
	if o.Issuer == "" && o.Audience == "" && len(roles) == 0 {
		return nil
	}
	o.Roles = nil
	for _, text := range roles {
		r, err := identity.ParseRole(text)
		if err != nil {
			return fmt.Errorf("--oidc-role: %w", err)
		}
		o.Roles = append(o.Roles, r)
	}
	if err := o.Check(); err != nil {
		return fmt.Errorf("--oidc-issuer, --oidc-audience and --oidc-role go together: %w", err)
	}
	return nil
}

// apiListener takes the socket that a parent handed over, or opens its own.
func apiListener(address string) (net.Listener, error) {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	pid := os.Getenv("LISTEN_PID")
	if n == 0 || (pid != "" && pid != strconv.Itoa(os.Getpid())) {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen for the API: %s is in use by another program; name another with --listen", address)
		}
		return l, err
	}
	f := os.NewFile(listenFD, "api")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use the socket handed over by LISTEN_FDS: %w", err)
	}
	return l, nil
}

// certificateNames adds the hosts of the listening addresses and this machine's name to names.
func certificateNames(names []string, addresses ...string) []string {
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a); err == nil && host != "" {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return names
}

// newLog writes key=value lines to standard error.
func newLog(verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// defaultNode is this machine's name up to the first dot.
func defaultNode() string {
	host, _ := os.Hostname()
	name, _, _ := strings.Cut(host, ".")
	return name
}

// notifyContext ends with SIGTERM and SIGINT.
func notifyContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
}
