// SPDX-License-Identifier: Apache-2.0

// Package createcmd makes resources from flags: one that is there already is never changed.
package createcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/outcome"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

// New returns the command create.
func New(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create one resource without a file",
		Long: `Create one resource without a file: a tenant, a VPC, a subnet in it, a port in that. What is more than a line, such as a
route table, is a file's: 'weft explain routetable' tells its fields, 'weft apply -f FILE' creates it.`,
		Example: `  weft create tenant green
  weft create vpc green/main --prefix 10.0.0.0/16
  weft create subnet green/web --vpc main --prefix 10.0.1.0/24
  weft create port green/web-1 --subnet web`,
	}
	cmd.AddCommand(newTenant(env), newVPC(env), newSubnet(env), newPort(env))
	return cmd
}

func newTenant(env *term.Env) *cobra.Command {
	var ports int
	cmd := &cobra.Command{
		Use: "tenant NAME", Short: "Create a tenant", Args: cobra.ExactArgs(1),
		Example: "  weft create tenant green\n  weft create tenant green --max-ports 100",
		RunE: func(cmd *cobra.Command, args []string) error {
			t := &v1.Tenant{TypeMeta: typed(v1.KindTenant), Metadata: v1.Metadata{Name: args[0]}}
			t.Spec.Quota.Ports = ports
			return create(cmd.Context(), env, t)
		},
	}
	cmd.Flags().IntVar(&ports, "max-ports", 0, "quota of ports; default: the system's")
	return cmd
}

func newVPC(env *term.Env) *cobra.Command {
	var prefixes []string
	cmd := &cobra.Command{
		Use: "vpc TENANT/NAME --prefix RANGE", Short: "Create a VPC", Args: cobra.ExactArgs(1),
		Example: "  weft create vpc green/main --prefix 10.0.0.0/16\n  weft create vpc main -t green --prefix 10.0.0.0/16,fd00::/48",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			v := &v1.VPC{TypeMeta: typed(v1.KindVPC)}
			if v.Tenant, v.Name, err = named(env, args[0], "VPC", "main"); err != nil {
				return err
			}
			if v.Spec.Prefixes, err = ranges("prefix", prefixes); err != nil {
				return err
			}
			return create(cmd.Context(), env, v)
		},
	}
	cmd.Flags().StringSliceVar(&prefixes, "prefix", nil, "ranges of addresses, IPv4, IPv6 or both (required)")
	return cmd
}

func newSubnet(env *term.Env) *cobra.Command {
	var vpc, gateway string
	var prefixes, dns []string
	cmd := &cobra.Command{
		Use: "subnet TENANT/NAME --vpc VPC --prefix RANGE", Short: "Create a subnet", Args: cobra.ExactArgs(1),
		Example: "  weft create subnet green/web --vpc main --prefix 10.0.1.0/24\n  weft create subnet db -t green --vpc main --prefix 10.0.2.0/24 --dns 10.0.9.53\n  weft create subnet green/web --vpc main --prefix 10.0.1.0/24,fd00:0:0:1::/64 --gateway 10.0.1.254 --dns 10.0.9.53",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s := &v1.Subnet{TypeMeta: typed(v1.KindSubnet), Spec: v1.SubnetSpec{VPC: vpc}}
			if s.Tenant, s.Name, err = named(env, args[0], "subnet", "web"); err != nil {
				return err
			}
			if s.Spec.Prefixes, err = ranges("prefix", prefixes); err != nil {
				return err
			}
			if s.Spec.DNS, err = addresses("dns", dns); err != nil {
				return err
			}
			if gateway != "" {
				one, err := addresses("gateway", []string{gateway})
				if err != nil {
					return err
				}
				s.Spec.Gateway = one[0]
			}
			return create(cmd.Context(), env, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&vpc, "vpc", "", "VPC of the subnet (required)")
	f.StringSliceVar(&prefixes, "prefix", nil, "ranges of the subnet, inside the VPC's (required)")
	f.StringVar(&gateway, "gateway", "", "address of the virtual router; default: the first of each range")
	f.StringSliceVar(&dns, "dns", nil, "resolvers that workloads are told")
	_ = cmd.RegisterFlagCompletionFunc("vpc", names.OfKind(env, v1.KindVPC)) // fails for flags that are not there
	return cmd
}

func newPort(env *term.Env) *cobra.Command {
	var subnet, node string
	var own, sources []string
	cmd := &cobra.Command{
		Use: "port TENANT/NAME --subnet SUBNET", Short: "Create a port", Args: cobra.ExactArgs(1),
		Example: "  weft create port red/mine --subnet web\n  weft create port red/mine --subnet web --address 10.0.1.77,fd00:0:0:1::77 --node host-2\n  weft create port red/fw-1 --subnet fw --allow-source 0.0.0.0/0,::/0",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			p := &v1.Port{TypeMeta: typed(v1.KindPort), Spec: v1.PortSpec{Subnet: subnet, Node: node}}
			if p.Tenant, p.Name, err = named(env, args[0], "port", "web-1"); err != nil {
				return err
			}
			if p.Spec.Addresses, err = addresses("address", own); err != nil {
				return err
			}
			if p.Spec.AllowedSources, err = ranges("allow-source", sources); err != nil {
				return err
			}
			return create(cmd.Context(), env, p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&subnet, "subnet", "", "subnet of the port (required)")
	f.StringSliceVar(&own, "address", nil, "addresses of the port, one of each family at most; default: the lowest that are free")
	f.StringSliceVar(&sources, "allow-source", nil, "ranges that it may send from besides its own addresses")
	f.StringVar(&node, "node", "", "node on which the port may be attached; default: any")
	_ = cmd.RegisterFlagCompletionFunc("subnet", names.OfKind(env, v1.KindSubnet)) // as above
	return cmd
}

// named reads TENANT/NAME, or NAME where -t or the context names the tenant.
func named(env *term.Env, arg, kind, example string) (tenant, name string, err error) {
	target, err := env.Target()
	if err != nil {
		return "", "", err
	}
	tenant, name, ok := strings.Cut(arg, "/")
	if !ok {
		tenant, name = target.Tenant, arg
	}
	if tenant == "" || name == "" {
		return "", "", term.Usagef("%q does not name a %s: write TENANT/NAME, for example red/%s, or add -t TENANT", arg, kind, example)
	}
	return tenant, name, nil
}

func addresses(flag string, words []string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, word := range words {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, term.Usagef("--%s %s is not an address such as 10.0.1.77 or fd00::77", flag, word)
		}
		all = append(all, a)
	}
	return all, nil
}

func ranges(flag string, words []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, word := range words {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, term.Usagef("--%s %s is not a range such as 10.0.9.0/24 or fd00:0:0:9::/64", flag, word)
		}
		all = append(all, p)
	}
	return all, nil
}

func typed(kind v1.Kind) v1.TypeMeta { return v1.TypeMeta{APIVersion: v1.APIVersion, Kind: kind} }

// create writes a resource that must not exist yet.
func create(ctx context.Context, env *term.Env, o v1.Object) error {
	c, _, err := env.Client()
	if err != nil {
		return err
	}
	if _, err := c.Get(ctx, o.GetKind(), o.Meta().Tenant, o.Meta().Name); err == nil {
		return &v1.Error{Code: v1.CodeInUse, Object: v1.ID(o), Message: "it exists already", Fix: "choose another name, or change it with 'weft apply'"}
	}
	res, err := c.Apply(ctx, []v1.Object{o}, client.ApplyOptions{})
	if err != nil {
		return err
	}
	outcome.Print(env, res)
	var p v1.Port
	if o.GetKind() == v1.KindPort && json.Unmarshal(res.Items[0].Object, &p) == nil {
		fmt.Fprintf(env.Out, "address %s, MAC %s\n", show.Joined(p.Status.Addresses), p.Status.MAC)
	}
	return nil
}
