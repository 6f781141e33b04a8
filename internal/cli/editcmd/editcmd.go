// SPDX-License-Identifier: Apache-2.0

// Package editcmd changes a resource in the user's own editor. What the user wrote is never lost: it is stored, or its file stays
// and is named.
package editcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/outcome"
	"weft/internal/cli/ref"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

// New returns the command; complete completes kinds and names.
func New(env *term.Env, complete cobra.CompletionFunc) *cobra.Command {
	var w outcome.Wait
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "edit KIND NAME",
		Short: "Change a resource in an editor",
		Long: `Change a resource in an editor: that of $WEFT_EDITOR, $VISUAL or $EDITOR, or vi. What the server refuses comes back into the editor,
with what was wrong above it. If somebody else changed the resource meanwhile, nothing is written and your text is kept in its file.
Where nothing was changed, nothing is sent.`,
		Example: `  weft edit port red/web-1
  weft edit subnet web -t red --wait
  WEFT_EDITOR="code --wait" weft edit routetable red/out
  WEFT_EDITOR="sed -i s/host-1/host-2/" weft edit port red/web-1`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			refs, err := ref.Parse(args)
			if err != nil {
				return err
			}
			if len(refs) != 1 || refs[0].Name == "" {
				return term.Usagef("name one resource: weft edit KIND NAME")
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			tenant, err := refs[0].In(target.Tenant)
			if err != nil {
				return err
			}
			stored, err := c.Get(cmd.Context(), refs[0].Kind.Kind, tenant, refs[0].Name)
			if err != nil {
				return err
			}
			e := &editing{env: env, client: c, stored: stored, dryRun: dryRun}
			res, err := e.run(cmd.Context())
			if err != nil || res == nil || dryRun || !w.On {
				return err
			}
			return w.Await(cmd.Context(), env, c, res.Items)
		},
	}
	w.Register(env, cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the server check everything, and write nothing")
	return cmd
}

// mostTries bounds how often a text comes back: an editor that is a script, and makes another mistake each time, would go on for ever.
const mostTries = 20

// editing is one resource on its way through an editor.
type editing struct {
	env    *term.Env
	client *client.Client
	stored v1.Object // as it was read
	dryRun bool
	path   string // of the file
}

// run opens the editor until what comes out is stored, is as it was, or is given up. A nil result: nothing was sent.
func (e *editing) run(ctx context.Context) (res *v1.Result, err error) {
	was, err := show.Intent(e.stored)
	if err != nil {
		return nil, err
	}
	if err := e.create(); err != nil {
		return nil, err
	}
	text, head, sent := was, e.welcome(), ""
	var refused error // why the text came back
	for range mostTries {
		if text, err = e.edit(ctx, head, text); err != nil {
			return nil, e.kept(err, text != was)
		}
		switch {
		case strings.TrimSpace(text) == "" || text == was:
			fmt.Fprintln(e.env.Err, "nothing was changed")
			return nil, e.remove()
		case text == sent: // it came back, and was left as it is
			return nil, e.kept(refused, true)
		}
		sent = text
		res, err = e.send(ctx, was, text)
		if err == nil && res == nil {
			fmt.Fprintln(e.env.Err, "nothing was changed")
			return nil, e.remove()
		}
		if err == nil {
			outcome.Print(e.env, res)
			return res, e.remove()
		}
		if !mendable(err) {
			return nil, e.kept(err, true)
		}
		head, refused = e.complaint(err), err
	}
	return nil, e.kept(refused, true)
}

// create makes the file, for its owner only.
func (e *editing) create() error {
	f, err := os.CreateTemp("", "weft-"+strings.ReplaceAll(v1.ID(e.stored), "/", "-")+"-*.yaml")
	if err != nil {
		return fmt.Errorf("make a file to edit: %w", err)
	}
	e.path = f.Name()
	return f.Close()
}

// welcome is what stands above the text at first.
func (e *editing) welcome() string {
	return "# " + v1.ID(e.stored) + ". Lines that begin with # are not read. An empty file changes nothing.\n# weft explain " +
		strings.ToLower(string(e.stored.GetKind())) + ".spec lists the fields.\n#\n"
}

// complaint is what stands above a text that was refused.
func (e *editing) complaint(err error) string {
	var b strings.Builder
	b.WriteString("# It was not stored:\n")
	quiet := term.Env{Err: &b}
	quiet.PrintError(err)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, line := range lines[1:] {
		lines[i+1] = "#   " + line
	}
	return strings.Join(lines, "\n") + "\n# Mend it; or leave it as it is to give up, and an empty file to change nothing.\n#\n"
}

// edit writes head and text, has the user change them, and reads the text again, without comments.
func (e *editing) edit(ctx context.Context, head, text string) (string, error) {
	if err := os.WriteFile(e.path, []byte(head+text), 0o600); err != nil {
		return text, fmt.Errorf("write the file to edit: %w", err)
	}
	editor := cmp.Or(os.Getenv("WEFT_EDITOR"), os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "sh", e.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.env.In, e.env.Out, e.env.Err
	keys := make(chan os.Signal, 1) // the editor's: it shares the terminal
	signal.Notify(keys, os.Interrupt, syscall.SIGQUIT)
	defer signal.Stop(keys)
	if err := cmd.Run(); err != nil {
		return text, fmt.Errorf("the editor %q ended with an error (choose another by WEFT_EDITOR): %w", editor, err)
	}
	data, err := os.ReadFile(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // who removes the file wants nothing changed
	}
	if err != nil {
		return text, fmt.Errorf("read the file again: %w", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// send checks a text and has it stored, if nobody else has changed the resource. A nil result: it means what it meant before.
func (e *editing) send(ctx context.Context, was, text string) (*v1.Result, error) {
	docs, err := v1.DecodeYAML([]byte(text))
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 || v1.ID(docs[0]) != v1.ID(e.stored) {
		return nil, &v1.Error{Code: v1.CodeInvalid, Object: v1.ID(e.stored), Message: "the text is not this resource any more", Fix: "leave kind, name and tenant as they were, and write one document; 'weft apply' makes others"}
	}
	if now, err := show.Intent(docs[0]); err == nil && now == was {
		return nil, nil
	}
	docs[0].Meta().ResourceVersion = e.stored.Meta().ResourceVersion
	return e.client.Apply(ctx, docs, client.ApplyOptions{DryRun: e.dryRun})
}

// mendable reports whether another text may be taken.
func mendable(err error) bool {
	list := term.APIErrors(err)
	for _, one := range list {
		switch info, known := v1.ErrorByCode(one.Code); {
		case one.Code == v1.CodeConflict || one.Code == v1.CodeNotFound || one.Code == v1.CodeInternal:
			return false
		case known && (info.Exit == v1.ExitUnavailable || info.Exit == v1.ExitDenied && one.Code != v1.CodeQuota):
			return false
		}
	}
	return len(list) > 0
}

func (e *editing) remove() error {
	if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the file that was edited: %w", err)
	}
	return nil
}

// kept tells with an error where the user's text is; a text that was not changed is not kept.
func (e *editing) kept(err error, keep bool) error {
	if !keep {
		return errors.Join(err, e.remove())
	}
	note := "your text is kept: " + e.path
	for _, one := range term.APIErrors(err) {
		if one.Code == v1.CodeConflict {
			note += "\nsomebody changed it meanwhile: 'weft diff -f " + e.path + "' shows what it would change now, 'weft apply -f' writes it"
		}
	}
	_, _ = io.WriteString(e.env.Err, note+"\n") // nowhere to tell
	return err
}
