// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/outcome"
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
