/** `blkforge profiles fit`: a profile from what fio measured on a real device. */
import { basename, extname } from "node:path";
import { Command } from "commander";
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import { fitProfile } from "../model/distribution/fit.js";

interface Options {
  name?: string;
  size?: string;
}

const defaultSize = "64G";

export const fitCommand = new Command("fit")
  .description(
    "Prints a profile of the distribution model with the latencies of a fio run: a table of percentiles per operation.\n" +
      "Run fio with --output-format=json+, which has the whole histogram; plain JSON has percentiles only.",
  )
  .argument("<fio.json>", "output of fio --output-format=json+ (or json)")
  .option("--name <name>", "what to call the device (default: the file's name)")
  .option("--size <size>", `capacity: 512, 10M, 2G, 1T (default: ${defaultSize})`)
  .addHelpText(
    "after",
    `
Examples:
  fio --name=r --filename=/dev/nvme0n1 --readonly --rw=randread --bs=4k --direct=1 --ioengine=io_uring \\
      --runtime=60 --time_based --output-format=json+ --output=run.json
  blkforge profiles fit run.json --name my-nvme > my-nvme.yaml
  blkforge simulate ./my-nvme.yaml --workload job.fio`,
  )
  .action((path: string, _: unknown, command: Command) => {
    // `profiles` has --size as well, and commander gives it to the one it sees first.
    const { name = nameFrom(path), size = defaultSize } = command.optsWithGlobals<Options>();
    parseSize(size);
    process.stdout.write(fitted(path, name, size));
  });

function fitted(path: string, name: string, size: string): string {
  try {
    return fitProfile({ path, name, size });
  } catch (error) {
    throw new BlkError(
      "BLK_E_FILE",
      error instanceof Error ? error.message : String(error),
      "Give the output of fio --output-format=json+",
    );
  }
}

/** What is left of a file's name when it is made into a profile's. */
function nameFrom(path: string): string {
  const name = basename(path, extname(path)).replace(/[^A-Za-z0-9._-]+/g, "-");
  return /^[A-Za-z0-9]/.test(name) ? name : `fitted${name}`;
}
