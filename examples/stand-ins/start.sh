# Read by the `run.sh` of an example, which sets $here. Starts the stand-ins, says where they are in $stand_ins, and ends them
# with the script. $providers sends the questions for OpenAI's models to them.

stand_ins_folder=$(mktemp -d)
mkfifo "$stand_ins_folder/first-line"
python3 "$here/../stand-ins/serve.py" --port 0 > "$stand_ins_folder/first-line" &
stand_ins_pid=$!
trap 'kill "$stand_ins_pid" 2> /dev/null || true; wait "$stand_ins_pid" || true; rm -r "$stand_ins_folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
read -r stand_ins < "$stand_ins_folder/first-line"

providers="[{\"vendor\": \"openai\", \"base_url\": \"$stand_ins/v1\", \"api_key\": \"sk-stand-in-1f0c9a72\"}]"
