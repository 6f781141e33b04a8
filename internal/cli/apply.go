// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/outcome"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

// fileFlags say where documents come from.
type fileFlags struct {
	files     []string
	recursive bool
}

func (f *fileFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "file, folder, or - for standard input")
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "R", false, "folders within folders, too")
}

// load reads every document. A tenant that a document leaves out is the context's.
func (f *fileFlags) load(env *term.Env, tenant string) ([]v1.Object, error) {
	if len(f.files) == 0 {
		return nil, term.Usagef("name a file with -f, for example -f network.yaml")
	}
	var docs []v1.Object
	var errs v1.ErrorList
	for _, name := range f.files {
		paths, err := f.expand(name)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			objects, err := readFile(env, p)
			if err != nil {
				list := term.APIErrors(err)
				if len(list) == 0 {
					return nil, err
				}
				for _, e := range list {
					e.Message = p + ": " + e.Message
				}
				errs = append(errs, list...)
			}
			docs = append(docs, objects...)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if len(docs) == 0 {
		return nil, term.Usagef("there is no document in %s", strings.Join(f.files, ", "))
	}
	for _, d := range docs {
		if info, _ := v1.KindByWord(string(d.GetKind())); info.Tenanted && d.Meta().Tenant == "" {
			d.Meta().Tenant = tenant
		}
	}
	return docs, nil
}

// expand lists the files that a name stands for.
func (f *fileFlags) expand(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var paths []string
	err = filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != name && !f.recursive:
			return fs.SkipDir
		case !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)):
			paths = append(paths, p)
		}
		return nil
	})
	return paths, err
}

func readFile(env *term.Env, path string) ([]v1.Object, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(env.In)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	return v1.DecodeYAML(data)
}

func newApplyCommand(env *term.Env) *cobra.Command {
	var files fileFlags
	var w outcome.Wait
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change resources as files say",
		Long: `Create or change resources as files say. Up to 100 documents are one transaction: all of them, or none. Larger sets go
in several, in the order in which kinds build on each other, and the output tells which.`,
		Example: `  weft apply -f network.yaml --wait
  weft apply -f examples/ -R --dry-run
  weft get port red/web-1 -o yaml | weft apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			docs, err := files.load(env, target.Tenant)
			if err != nil {
				return err
			}
			return apply(cmd.Context(), env, c, docs, dryRun, w)
		},
	}
	files.register(cmd)
	w.Register(env, cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the server check everything, and write nothing")
	return cmd
}

func apply(ctx context.Context, env *term.Env, c *client.Client, docs []v1.Object, dryRun bool, w outcome.Wait) error {
	res, err := c.Apply(ctx, docs, client.ApplyOptions{DryRun: dryRun})
	if res != nil {
		outcome.Print(env, res)
	}
	if err != nil || dryRun || !w.On {
		return err
	}
	return w.Await(ctx, env, c, res.Items)
}

func newCreateCommand(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create one resource without a file",
		Example: `  weft create tenant green
  weft create port red/mine --subnet web`,
	}
	var quotaPorts int
	tenant := &cobra.Command{
		Use: "tenant NAME", Short: "Create a tenant", Args: cobra.ExactArgs(1),
		Example: "  weft create tenant green\n  weft create tenant green --max-ports 100",
		RunE: func(cmd *cobra.Command, args []string) error {
			t := &v1.Tenant{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindTenant}, Metadata: v1.Metadata{Name: args[0]}}
			t.Spec.Quota.Ports = quotaPorts
			return create(cmd.Context(), env, t)
		},
	}
	tenant.Flags().IntVar(&quotaPorts, "max-ports", 0, "quota of ports; default: the system's")
	var subnet, node string
	var addresses, sources []string
	port := &cobra.Command{
		Use: "port TENANT/NAME", Short: "Create a port", Args: cobra.ExactArgs(1),
		Example: "  weft create port red/mine --subnet web\n  weft create port red/mine --subnet web --address 10.0.1.77,fd00:0:0:1::77 --node host-2\n  weft create port red/fw-1 --subnet fw --allow-source 0.0.0.0/0,::/0",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := env.Target()
			if err != nil {
				return err
			}
			p := &v1.Port{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindPort}, Spec: v1.PortSpec{Subnet: subnet, Node: node}}
			if p.Tenant, p.Name, err = term.ParsePort(args[0], t.Tenant); err != nil {
				return err
			}
			for _, address := range addresses {
				a, err := netip.ParseAddr(address)
				if err != nil {
					return term.Usagef("--address %s is not an address such as 10.0.1.77 or fd00::77", address)
				}
				p.Spec.Addresses = append(p.Spec.Addresses, a)
			}
			for _, source := range sources {
				s, err := netip.ParsePrefix(source)
				if err != nil {
					return term.Usagef("--allow-source %s is not a range such as 10.0.9.0/24 or ::/0", source)
				}
				p.Spec.AllowedSources = append(p.Spec.AllowedSources, s)
			}
			return create(cmd.Context(), env, p)
		},
	}
	f := port.Flags()
	f.StringVar(&subnet, "subnet", "", "subnet of the port (required)")
	f.StringSliceVar(&addresses, "address", nil, "addresses of the port, one of each family at most; default: the lowest that are free")
	f.StringSliceVar(&sources, "allow-source", nil, "ranges that it may send from besides its own addresses")
	f.StringVar(&node, "node", "", "node on which the port may be attached; default: any")
	cmd.AddCommand(tenant, port)
	return cmd
}

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
