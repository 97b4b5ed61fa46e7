/**
 * The register file of the edu-like device by which a driver gives it DMA work: one command at a time, a doorbell each
 * way. The device's own thread serves it; data go through `DmaEngine`.
 */
import { waitWord } from '#hostmem/locks';
import { object, ref, u32, u64 } from '#hostmem/struct';

/** The driver owns the command's fields from `finished` to `given`, the device from `given` to `finished`. */
export const EduRegisters = object('EduRegisters', {
  function: ref('PciFunction'),
  op: u32,
  iova: u64,
  lengthBytes: u32,
  /** What the requests of the command carry, or `noPasid`. */
  pasid: u32,
  /** 0, or the fault reason of the unit. */
  status: u32,
  /** Commands given (by the driver) and finished (by the device). */
  given: waitWord,
  finished: waitWord,
});

/** READ moves memory to the device's buffer, WRITE its buffer to memory. */
export const EduOp = { READ: 1, WRITE: 2 } as const;
