// SPDX-License-Identifier: Apache-2.0

package names

import (
	"io"

	"github.com/spf13/cobra"

	"weft/internal/cli/term"
)

// wordsOfLine stands in for a function of the package bash-completion where that is not installed: it gives words as they are parted by
// spaces, and not also at = and :.
const wordsOfLine = `if ! declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref()
    {
        local line=${COMP_LINE:0:COMP_POINT}
        read -ra words <<<"$line"
        if [[ ${#words[@]} -eq 0 || $line == *[[:space:]] ]]; then
            words+=("")
        fi
        cword=$((${#words[@]} - 1))
        cur=${words[cword]}
        prev=${words[cword > 0 ? cword - 1 : 0]}
    }
fi
`

// Completion returns the command that prints a shell's completion.
func Completion(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion of a shell",
		Long: `Print what makes a shell complete commands, flags, kinds, fields, error codes, and the names that the server has, if it answers within
0.2 s. It needs no other package.`,
		Example: `  source <(weft completion bash)
  weft completion bash > /etc/bash_completion.d/weft
  weft completion zsh > "${fpath[1]}/_weft"
  weft completion fish > ~/.config/fish/completions/weft.fish`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(env.Out)
			case "fish":
				return root.GenFishCompletion(env.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.Out)
			}
			if _, err := io.WriteString(env.Out, wordsOfLine); err != nil {
				return err
			}
			return root.GenBashCompletionV2(env.Out, true)
		},
	}
}
