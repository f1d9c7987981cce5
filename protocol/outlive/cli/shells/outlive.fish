# fish completion for outlive. In ~/.config/fish/config.fish: outlive completion fish | source

function __outlive_complete
    set -l program @PROGRAM@
    test -x $program[1]; or set program outlive
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($program __complete words $words[2..-1] "$current" 2>/dev/null </dev/null)
    switch "$answer[1]"
        case :files
            __fish_complete_path "$current"
        case :directories
            __fish_complete_directories "$current"
        case :command
            set -l at (contains --index -- -- $words)
            complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) "$current")
        case '*'
            string join \n -- $answer
    end
end

complete -c outlive -f -k -a '(__outlive_complete)'
